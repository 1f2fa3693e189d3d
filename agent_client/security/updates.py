"""Pending updates of a Linux machine, from what its package manager knows already: nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent_client.host import Host, lines_of, text_of
from agent_client.security.facts import Updates

_APT_LISTS: Final = "/var/lib/apt/lists"
_SECURITY_ORIGIN: Final = re.compile(r"\bsecurity|-security\b|ESM", re.IGNORECASE)
_UPDATES_ARE_THERE: Final = 100


def updates_of(host: Host) -> Updates | None:
    """Return None where no package manager knows: none is there, or it has no lists."""
    known: tuple[tuple[str, Callable[[Host], Updates | None]], ...] = (
        ("/var/lib/dpkg/status", _apt),
        ("/var/lib/rpm", _dnf),
        ("/usr/lib/sysimage/rpm", _dnf),
        ("/lib/apk/db/installed", _apk),
        ("/var/lib/pacman/local", _pacman),
    )
    for mark, ask in known:
        if host.path(mark).exists():
            return ask(host)
    return None


def _apt(host: Host) -> Updates | None:
    lists = host.path(_APT_LISTS)
    if not any(lists.glob("*_Packages*")):
        return None
    lines = lines_of(host, "apt-get", "-s", "-q2", "-o", "Debug::NoLocking=1", "upgrade", "--with-new-pkgs")
    if lines is None:
        return None
    upgrades = [line for line in lines if re.match(r"Inst \S+ \[", line)]
    return Updates(
        updates_available=len(upgrades),
        security_updates=sum(bool(_SECURITY_ORIGIN.search(line.partition("(")[2])) for line in upgrades),
        updates_as_of_ms=_newest_ms([lists / "partial", *lists.glob("*Release")]),
    )


def _dnf(host: Host) -> Updates | None:
    """Ask dnf, or yum where there is none: an exit code of 100 says that there are updates, 0 that there are none."""
    for tool in ("dnf", "yum"):
        answer = host.ask(tool, "-C", "-q", "check-update")
        if answer is None:
            continue
        if answer.exit_code not in {0, _UPDATES_ARE_THERE}:
            return None
        security = lines_of(host, tool, "-C", "-q", "updateinfo", "list", "security")
        return Updates(
            updates_available=len(_dnf_packages(answer.output)),
            security_updates=None if security is None else len({line.split()[-1] for line in security if line.strip()}),
            updates_as_of_ms=_newest_ms([host.path("/var/cache/dnf"), host.path("/var/cache/yum")]),
        )
    return None


def _dnf_packages(output: str) -> set[str]:
    """Return name.arch of each line `name.arch version repository`, up to the list of packages that are obsolete."""
    current = output.partition("Obsoleting")[0]
    rows = (line.split() for line in current.splitlines())
    return {row[0] for row in rows if len(row) == 3 and "." in row[0]}


def _apk(host: Host) -> Updates | None:
    lines = lines_of(host, "apk", "list", "--upgradable", "--no-network")
    if lines is None:
        return None
    count = sum("upgradable from" in line for line in lines)
    return Updates(updates_available=count, updates_as_of_ms=_newest_ms(host.path("/var/cache/apk").glob("APKINDEX*")))


def _pacman(host: Host) -> Updates | None:
    sync = host.path("/var/lib/pacman/sync")
    answer = host.ask("pacman", "-Qu")
    if answer is None or not any(sync.glob("*.db")):
        return None
    pending = [line for line in answer.output.splitlines() if "->" in line and "[ignored]" not in line]
    return Updates(updates_available=len(pending), updates_as_of_ms=_newest_ms(sync.glob("*.db")))


def reboot_required(host: Host) -> bool | None:
    """Return None where nothing on the machine would tell."""
    if any(host.path(mark).exists() for mark in ("/run/reboot-required", "/var/run/reboot-required")):
        return True
    answer = host.ask("needs-restarting", "-r")
    if answer is not None and answer.exit_code in {0, 1}:
        return answer.exit_code == 1
    running = text_of(host, "/proc/sys/kernel/osrelease")
    kernels = [*host.path("/boot").glob("vmlinuz-*")]
    if not running or not kernels:
        return None
    booted = _booted_at(host)
    return booted is not None and any(
        kernel.name != f"vmlinuz-{running}" and kernel.stat().st_mtime > booted for kernel in kernels
    )


def automatic_updates_enabled(host: Host) -> bool | None:
    if host.path("/var/lib/dpkg/status").exists():
        lines = lines_of(host, "apt-config", "dump", "APT::Periodic::Unattended-Upgrade")
        if lines is None or not host.path("/usr/bin/unattended-upgrade").exists():
            return None if lines is None else False
        return any(re.search(r'"([1-9]\d*|always)"', line) for line in lines)
    for timer in ("dnf-automatic.timer", "dnf-automatic-install.timer", "dnf5-automatic.timer", "yum-cron.service"):
        answer = host.ask("systemctl", "is-enabled", timer)
        if answer is not None and answer.output.strip() == "enabled":
            return True
    return False if host.path("/var/lib/rpm").exists() else None


def _booted_at(host: Host) -> float | None:
    for line in text_of(host, "/proc/stat").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return None


def _newest_ms(paths: Iterable[Path]) -> int | None:
    times = []
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return int(max(times) * 1000) if times else None
