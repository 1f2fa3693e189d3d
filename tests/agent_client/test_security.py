"""Security facts: only what can be told, from rules and lists that real tools wrote."""

from __future__ import annotations

import io
import os
from pathlib import Path

import msgspec
import pytest

from agent_client.collectors.watch import Watch, stamp_of
from agent_client.security.__main__ import main
from agent_client.security.collector import SecurityCollector
from agent_client.security.facts import Findings, Memo, SecurityFacts, Updates
from agent_client.security.firewall import firewall_of
from agent_client.security.linux import LinuxSecurity
from agent_client.security.macos import MacosSecurity
from agent_client.security.stamps import INSTALLED, LISTS
from agent_client.security.windows import WindowsSecurity
from tests.agent_client.recorded_host import RecordedHost, recorded

NFT = "nft -j list ruleset"
APT = "apt-get -s"


@pytest.mark.parametrize(
    ("rules", "is_enabled"),
    [
        ("nft-empty.json", False),
        ("nft-workstation.json", True),  # a chain it jumps to drops the rest
        ("nft-fail2ban.json", False),  # refuses single addresses only
        ("nft-iptables-policy.json", True),
        ("nft-iptables-reject.json", True),
        ("nft-docker.json", False),  # guards forwarded packets, and drops on the loopback
    ],
)
def test_a_firewall_is_one_that_refuses_whoever_knocks(tmp_path: Path, rules: str, is_enabled: bool) -> None:
    found = firewall_of(RecordedHost(tmp_path, {NFT: (0, recorded(rules))}))
    assert (found.is_enabled, found.name) == (is_enabled, "nftables")


@pytest.mark.parametrize(
    ("rules", "is_enabled"),
    [
        ("-P INPUT ACCEPT\n-A INPUT -s 192.0.2.1/32 -j DROP", False),
        ("-P INPUT DROP", True),
        (
            "-P INPUT ACCEPT\n-N rest\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -j rest\n-A rest -j DROP",
            True,
        ),
        ('-P INPUT ACCEPT\n-A INPUT -i eth0 -m comment --comment "no more" -j REJECT --reject-with x', True),
        ("-P INPUT ACCEPT\n-A INPUT -i lo -j DROP", False),
    ],
)
def test_older_tables_are_asked_where_they_are_loaded(tmp_path: Path, rules: str, is_enabled: bool) -> None:
    host = RecordedHost(tmp_path, {"iptables --version": (0, "iptables v1.8.9 (legacy)"), "iptables -S": (0, rules)})
    assert firewall_of(host).is_enabled is False
    assert "iptables -S" not in host.asked
    host.file("/proc/net/ip_tables_names", "nat\nfilter\n")
    assert firewall_of(host) == (is_enabled, "iptables")


def test_without_tools_or_rights_no_firewall_is_claimed_to_be_off(tmp_path: Path) -> None:
    assert firewall_of(RecordedHost(tmp_path)).is_enabled is None
    assert firewall_of(RecordedHost(tmp_path, {NFT: (1, "")})).is_enabled is None
    assert firewall_of(RecordedHost(tmp_path, {NFT: (0, recorded("nft-empty.json"))}, is_root=False)).is_enabled is None


def test_ufw_and_firewalld_are_believed_without_rights(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path, {"firewall-cmd --state": (0, "running\n")}, is_root=False)
    assert firewall_of(host) == (True, "firewalld")
    host.file("/etc/ufw/ufw.conf", "# comment\nENABLED=yes\nLOGLEVEL=low\n")
    assert firewall_of(host) == (True, "ufw")


def debian(root: Path) -> RecordedHost:
    host = RecordedHost(root, {APT: (0, recorded("apt-upgrade.txt")), "apt-config": (0, "")})
    host.file("/var/lib/dpkg/status")
    host.file("/var/lib/apt/lists/archive_Packages")
    os.utime(host.file("/var/lib/apt/lists/archive_InRelease"), (1_700_000_000, 1_700_000_000))
    host.path("/proc").mkdir()
    return host


def facts_of(host: RecordedHost) -> SecurityFacts:
    return LinuxSecurity(host).findings(Memo()).facts


def test_updates_of_apt_are_counted_from_its_lists_and_security_ones_apart(tmp_path: Path) -> None:
    facts = facts_of(debian(tmp_path))
    assert (facts.updates_available, facts.security_updates) == (4, 2)
    assert facts.updates_as_of_ms == 1_700_000_000_000


def test_a_machine_that_never_fetched_lists_has_no_count_rather_than_none(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.path("/var/lib/apt/lists/archive_Packages").unlink()
    assert facts_of(host).updates_available is None


def test_what_cannot_be_told_is_left_out_of_the_figures(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.answers.pop(APT)
    assert msgspec.to_builtins(facts_of(host)) == {"automatic_updates_enabled": False}


def test_updates_are_counted_anew_only_when_packages_or_lists_changed(tmp_path: Path) -> None:
    host = debian(tmp_path)
    first = LinuxSecurity(host).findings(Memo())
    host.asked.clear()
    assert LinuxSecurity(host).findings(first.memo).facts == first.facts
    assert not [line for line in host.asked if line.startswith(APT)]
    os.utime(host.path("/var/lib/dpkg/status"), (1, 1))
    LinuxSecurity(host).findings(first.memo)
    assert [line for line in host.asked if line.startswith(APT)]


def test_updates_of_dnf_apk_and_pacman(tmp_path: Path) -> None:
    red_hat = RecordedHost(
        tmp_path / "rpm",
        {
            "dnf -C -q check-update": (100, recorded("dnf-check-update.txt")),
            "dnf -C -q updateinfo": (0, recorded("dnf-updateinfo.txt")),
            "needs-restarting -r": (1, ""),
            "systemctl is-enabled dnf-automatic.timer": (0, "enabled\n"),
        },
    )
    red_hat.file("/var/lib/rpm/rpmdb.sqlite")
    facts = facts_of(red_hat)
    assert (facts.updates_available, facts.security_updates) == (3, 2)
    assert (facts.reboot_required, facts.automatic_updates_enabled) == (True, True)
    alpine = RecordedHost(
        tmp_path / "apk", {"apk list": (0, "musl-1.2.5-r1 x86_64 {musl} (MIT) [upgradable from: musl-1.2.5-r0]\n")}
    )
    alpine.file("/lib/apk/db/installed")
    assert facts_of(alpine).updates_available == 1
    arch = RecordedHost(
        tmp_path / "arch", {"pacman -Qu": (0, "curl 8.9-1 -> 8.10-1\nlinux 6.9-1 -> 6.10-1 [ignored]\n")}
    )
    arch.file("/var/lib/pacman/local/ALPM_DB_VERSION")
    assert facts_of(arch).updates_available is None
    arch.file("/var/lib/pacman/sync/core.db")
    assert facts_of(arch).updates_available == 1


def test_a_reboot_is_needed_by_the_systems_mark_or_a_kernel_installed_since_the_boot(tmp_path: Path) -> None:
    host = debian(tmp_path)
    assert facts_of(host).reboot_required is None
    host.file("/proc/sys/kernel/osrelease", "6.1.0-41-amd64\n")
    host.file("/proc/stat", "cpu 1\nbtime 2000000000\n")
    os.utime(host.file("/boot/vmlinuz-6.1.0-41-amd64"), (2_000_000_500, 2_000_000_500))
    os.utime(host.file("/boot/vmlinuz-6.1.0-40-amd64"), (1_900_000_000, 1_900_000_000))
    assert facts_of(host).reboot_required is False
    os.utime(host.file("/boot/vmlinuz-6.1.0-42-amd64"), (2_000_000_100, 2_000_000_100))
    assert facts_of(host).reboot_required is True
    host.path("/boot/vmlinuz-6.1.0-42-amd64").unlink()
    host.file("/run/reboot-required")
    assert facts_of(host).reboot_required is True


def test_only_an_installed_antivirus_that_does_not_run_is_one_that_is_off(tmp_path: Path) -> None:
    host = debian(tmp_path)
    assert facts_of(host).antivirus_enabled is None
    host.file("/usr/sbin/clamd")
    host.file("/proc/7/comm", "sshd\n")
    facts = facts_of(host)
    assert (facts.antivirus_enabled, facts.antivirus) == (False, "ClamAV")
    host.file("/proc/8/comm", "clamd\n")
    assert facts_of(host).antivirus_enabled is True


def test_unattended_upgrades_are_automatic_only_when_switched_on(tmp_path: Path) -> None:
    host = debian(tmp_path)
    host.answers["apt-config"] = (0, 'APT::Periodic::Unattended-Upgrade "1";\n')
    assert facts_of(host).automatic_updates_enabled is False
    host.file("/usr/bin/unattended-upgrade")
    assert facts_of(host).automatic_updates_enabled is True
    host.answers["apt-config"] = (0, 'APT::Periodic::Unattended-Upgrade "0";\n')
    assert facts_of(host).automatic_updates_enabled is False


def test_recorded_outputs_of_macos_are_understood(tmp_path: Path) -> None:
    answers = {
        "/usr/libexec/ApplicationFirewall/socketfilterfw": (0, "Firewall is enabled. (State = 1) \n"),
        "/usr/bin/xprotect status": (0, "XProtect launch scans: enabled\nXProtect background scans: enabled\n"),
        "/usr/sbin/softwareupdate --list --no-scan": (0, recorded("macos-softwareupdate.txt")),
        "/usr/bin/defaults read": (0, "1\n"),
    }
    host = RecordedHost(tmp_path, answers)
    assert MacosSecurity(host).findings(Memo()).facts == SecurityFacts(
        firewall_enabled=True,
        firewall="Application Firewall",
        antivirus_enabled=True,
        antivirus="XProtect",
        updates_available=2,
        security_updates=1,
        automatic_updates_enabled=True,
    )
    host.answers["/usr/libexec/ApplicationFirewall/socketfilterfw"] = (0, "Firewall is disabled. (State = 0)\n")
    assert MacosSecurity(host).findings(Memo()).facts.firewall_enabled is False
    assert MacosSecurity(RecordedHost(tmp_path)).findings(Memo()).facts == SecurityFacts()


def test_recorded_outputs_of_windows_are_understood(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path, {"powershell.exe": (0, recorded("windows-security.json"))})
    assert WindowsSecurity(host).findings(Memo()).facts == SecurityFacts(
        firewall_enabled=False,
        firewall="Windows Firewall",
        antivirus_enabled=True,
        antivirus="Microsoft Defender",
        updates_available=3,
        security_updates=2,
        reboot_required=True,
        automatic_updates_enabled=True,
    )
    passive = '{"defender": {"mode": "Passive Mode", "antivirus": true, "realtime": false}, "products": [%s]}'
    for state, is_guarded in ((397568, True), (393472, False)):
        host.answers["powershell.exe"] = (0, passive % f'{{"name": "Acme AV", "state": {state}}}')
        facts = WindowsSecurity(host).findings(Memo()).facts
        assert (facts.antivirus_enabled, facts.antivirus) == (is_guarded, "Acme AV")
    assert WindowsSecurity(RecordedHost(tmp_path)).findings(Memo()).facts == SecurityFacts()


async def test_the_facts_of_this_machine_come_from_a_process_that_is_told_what_was_known() -> None:
    collector = SecurityCollector(lambda: True)
    stamp = stamp_of([Path(path) for path in (*INSTALLED, *LISTS)])
    collector._memo = msgspec.json.encode(Memo(stamp, Updates(updates_available=12345)))
    readings = await collector.collect()
    if stamp:
        assert readings["security"]["updates_available"] == 12345
        assert msgspec.json.decode(collector._memo, type=Memo).stamp == stamp


async def test_a_change_of_watched_files_is_a_reason_to_look_once_it_has_come_to_rest(tmp_path: Path) -> None:
    looks: list[float] = []
    mark = tmp_path / "status"
    mark.write_text("")

    async def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) in {2, 3}:
            os.utime(mark, (len(looks), len(looks)))

    watching = Watch([str(mark)], lambda: True, pause)
    watching.reset()
    await watching.changed()
    assert looks == [60.0] * 4


async def test_what_the_settings_want_again_is_looked_at_without_a_change() -> None:
    wanted = iter([True, False, False, True])
    looks: list[float] = []

    async def pause(seconds: float) -> None:
        looks.append(seconds)

    await Watch([], lambda: next(wanted), pause).changed()
    assert len(looks) == 3


def test_a_system_nobody_knows_has_no_facts(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr("sys.platform", "freebsd14")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    main()
    assert msgspec.json.decode(capfdbinary.readouterr().out, type=Findings) == Findings(facts=SecurityFacts())
