"""Inventory: what a machine tells of itself, how it lies ready in parts, and how it reaches the hub."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.inventory import sender
from agent_client.inventory.__main__ import collected
from agent_client.inventory.collector import InventoryCollector
from agent_client.inventory.linux import LinuxInventory
from agent_client.inventory.macos import MacosInventory
from agent_client.inventory.sender import InventorySender
from agent_client.inventory.shelf import Shelf
from agent_client.inventory.shelving import put_sections
from agent_client.inventory.windows import WindowsInventory
from agent_client.paths import Places
from protocol.codec import encode
from protocol.frames import AgentFrame, Hello, Inventory, InventoryAck
from protocol.inventory import (
    PART_MAX_BYTES,
    PARTS_MAX,
    SECTIONS,
    Drive,
    Hardware,
    OperatingSystem,
    Package,
    Section,
    ServiceUnit,
    hash_of,
)
from protocol.limits import FRAME_MAX_BYTES
from tests.agent_client.alive import alive, until
from tests.agent_client.fleet import Fleet
from tests.agent_client.hub import Hub, Peer, running
from tests.agent_client.recorded_host import RecordedHost, recorded

OS = {"name": "Debian GNU/Linux", "version": "12"}


def a_server(root: Path) -> RecordedHost:
    dpkg = "installed\tzlib1g:amd64\t1:1.2.13\ninstalled\tadduser\t3.134\nconfig-files\tgone\t1.0\n"
    host = RecordedHost(
        root,
        {
            "dpkg-query -W": (0, dpkg),
            "systemctl list-units": (0, recorded("systemctl-units.txt")),
            "systemctl list-unit-files": (0, recorded("systemctl-files.txt")),
            "systemd-detect-virt": (1, "none\n"),
        },
    )
    for name, content in {
        "/sys/class/dmi/id/sys_vendor": "Dell Inc.\n",
        "/sys/class/dmi/id/product_name": "PowerEdge R730\n",
        "/sys/class/dmi/id/product_serial": "To Be Filled By O.E.M.\n",
        "/sys/class/dmi/id/bios_vendor": "Dell Inc.\n",
        "/sys/class/dmi/id/bios_version": "2.19.0\n",
        "/sys/block/sda/size": "1953525168\n",
        "/sys/block/sda/device/model": "PERC H730 Mini\n",
        "/sys/block/sda/queue/rotational": "1\n",
        "/sys/block/loop0/size": "8\n",
        "/sys/block/dm-0/size": "8\n",
        "/proc/cpuinfo": recorded("cpuinfo.txt"),
        "/proc/meminfo": "MemTotal:       65775652 kB\nMemFree: 1 kB\n",
        "/proc/sys/kernel/osrelease": "6.1.0-42-amd64\n",
        "/etc/os-release": 'NAME="Debian GNU/Linux"\nVERSION="12 (bookworm)"\n# x\nID=debian\n',
        "/etc/machine-id": "",
    }.items():
        host.file(name, content)
    os.utime(host.path("/etc/machine-id"), (1_700_000_000, 1_700_000_000))
    host.path("/etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Vienna")
    return host


def test_a_linux_machine_is_told_from_its_files_and_tools(tmp_path: Path) -> None:
    inventory = LinuxInventory(a_server(tmp_path))
    assert inventory.hardware() == Hardware(
        manufacturer="Dell Inc.",
        model="PowerEdge R730",
        firmware="Dell Inc. 2.19.0",
        cpu_model="Intel(R) Xeon(R) CPU E5-2640 v4 @ 2.40GHz",
        cpu_cores=2,
        cpu_threads=4,
        memory_total_bytes=65775652 * 1024,
        drives=[Drive(name="sda", model="PERC H730 Mini", size_bytes=1953525168 * 512, rotational=True)],
    )
    system = inventory.operating_system()
    assert (system.name, system.version, system.kernel) == ("Debian GNU/Linux", "12 (bookworm)", "6.1.0-42-amd64")
    assert (system.timezone, system.installed_at) == ("Europe/Vienna", "2023-11-14")
    packages = inventory.packages()
    assert packages is not None
    assert packages.items == [
        Package(name="adduser", version="3.134", source="dpkg"),
        Package(name="zlib1g:amd64", version="1:1.2.13", source="dpkg"),
    ]
    services = inventory.services()
    assert services is not None
    assert services.items == [
        ServiceUnit(name="apparmor", state="exited"),
        ServiceUnit(name="cron", state="running", starts="enabled"),
        ServiceUnit(name="emergency", state="stopped", starts="static"),
        ServiceUnit(name="getty@tty1", state="running"),
        ServiceUnit(name="nginx", state="failed", starts="enabled"),
        ServiceUnit(name="rsync", state="stopped", starts="disabled"),
    ]


def test_packages_of_rpm_apk_and_pacman(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path, {"rpm -qa": (0, "bash\t0:5.1.8-9.el9\nshadow\t2:4.9-10.el9\ngpg-pubkey\t0:1-1\n")})
    host.file("/var/lib/rpm/rpmdb.sqlite")
    host.file("/lib/apk/db/installed", "C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nP:busybox\nV:1.36-r2\n")
    host.file("/var/lib/pacman/local/gtk-update-icon-cache-1:4.12-2/desc")
    packages = LinuxInventory(host).packages()
    assert packages is not None
    assert [(one.name, one.version, one.source) for one in packages.items] == [
        ("bash", "5.1.8-9.el9", "rpm"),
        ("busybox", "1.36-r2", "apk"),
        ("gtk-update-icon-cache", "1:4.12-2", "pacman"),
        ("musl", "1.2.5-r0", "apk"),
        ("shadow", "2:4.9-10.el9", "rpm"),
    ]


def test_what_a_machine_does_not_tell_is_no_section_and_one_fault_costs_one_section(tmp_path: Path) -> None:
    host = a_server(tmp_path)
    host.answers = {}
    inventory = LinuxInventory(host)
    bodies, faults = collected(inventory)
    assert (set(bodies), faults) == ({"hardware", "os"}, [])

    def broken() -> None:
        raise ValueError("torn database")

    inventory.packages = broken  # type: ignore[method-assign]
    bodies, faults = collected(inventory)
    assert (set(bodies), faults) == ({"hardware", "os"}, ["packages: ValueError: torn database"])


def a_mac(root: Path) -> RecordedHost:
    profiler = "/usr/sbin/system_profiler -json -detailLevel mini "
    return RecordedHost(
        root,
        {
            f"{profiler}SPHardwareDataType": (0, recorded("macos-hardware.json")),
            f"{profiler}SPStorageDataType": (0, recorded("macos-storage.json")),
            f"{profiler}SPApplicationsDataType": (0, recorded("macos-applications.json")),
            "brew list --versions": (0, "openssl@3 3.4.0 3.4.1\n"),
            "/bin/launchctl list": (0, recorded("macos-launchctl.txt")),
            "/usr/sbin/sysctl -n hw.physicalcpu": (0, "8\n"),
            "/usr/sbin/sysctl -n hw.logicalcpu": (0, "8\n"),
            "/usr/sbin/sysctl -n hw.memsize": (0, "17179869184\n"),
            "/usr/bin/sw_vers": (0, "ProductName:\t\tmacOS\nProductVersion:\t\t15.4\nBuildVersion:\t\t24E248\n"),
            "/usr/bin/readlink": (0, "/var/db/timezone/zoneinfo/Europe/Vienna\n"),
            "/usr/bin/uname -r": (0, "24.4.0\n"),
            "/usr/bin/uname -m": (0, "arm64\n"),
        },
    )


def test_recorded_outputs_of_macos_are_understood(tmp_path: Path) -> None:
    inventory = MacosInventory(a_mac(tmp_path))
    hardware, system = inventory.hardware(), inventory.operating_system()
    assert hardware is not None
    assert (hardware.model, hardware.serial, hardware.cpu_model) == ("Mac14,2", "C02XL0ABCDEF", "Apple M2")
    assert (hardware.cpu_cores, hardware.memory_total_bytes) == (8, 2**34)
    drive = Drive(name="disk3s1s1", model="APPLE SSD AP0512Z", size_bytes=494384795648, rotational=False)
    assert hardware.drives == [drive]
    assert system == OperatingSystem(
        name="macOS", version="15.4 (24E248)", kernel="24.4.0", arch="arm64", timezone="Europe/Vienna"
    )
    bodies, faults = collected(inventory)
    assert faults == []
    assert [(one["name"], one["version"]) for one in bodies["packages"]["items"]] == [
        ("Firefox", "149.0"),
        ("Nameless", ""),
        ("Safari", "18.4"),
        ("openssl@3", "3.4.1"),
    ]
    assert [(one["name"], one["state"]) for one in bodies["services"]["items"]] == [
        ("com.apple.SafariHistoryServiceAgent", "stopped"),
        ("com.example.broken", "failed"),
        ("com.openssh.sshd", "running"),
    ]
    assert collected(MacosInventory(RecordedHost(tmp_path))) == ({}, [])


def test_recorded_outputs_of_windows_are_understood(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path, {"powershell.exe": (0, recorded("windows-inventory.json"))})
    bodies, faults = collected(WindowsInventory(host))
    assert faults == []
    assert len(host.asked) == 1
    hardware = msgspec.convert(bodies["hardware"], Hardware)
    assert (hardware.serial, hardware.cpu_cores, hardware.cpu_threads) == ("PF3ABCDE", 12, 16)
    assert hardware.drives[0] == Drive(
        name="disk0", model="SAMSUNG MZVL21T0HCLR-00BL7", size_bytes=1024209543168, rotational=False
    )
    assert bodies["os"]["name"] == "Microsoft Windows 11 Pro"
    assert [one["name"] for one in bodies["packages"]["items"]] == ["7-Zip 24.09 (x64)", "Microsoft Edge Update"]
    assert bodies["services"]["items"][-1] == {"name": "WinDefend", "state": "running", "starts": "automatic"}
    assert collected(WindowsInventory(RecordedHost(tmp_path))) == ({}, [])


def packages(count: int, version: str = "1.0") -> dict[str, Any]:
    return {
        "items": [{"name": f"package-{number:05}", "version": version, "source": "dpkg"} for number in range(count)]
    }


def test_a_section_lies_ready_in_parts_that_fit_frames_and_make_the_whole_again(tmp_path: Path) -> None:
    body = packages(1100, version="é" * 4096)
    put_sections(tmp_path / "shelf", {"packages": body, "os": OS})
    shelf = Shelf(tmp_path / "shelf")
    stored = shelf.owed()["packages"]
    assert 2 <= stored.parts <= PARTS_MAX
    items = []
    for number in range(1, stored.parts + 1):
        part = shelf.part(stored, number)
        assert part is not None
        assert len(msgspec.json.encode(part)) <= PART_MAX_BYTES < FRAME_MAX_BYTES
        items += part["items"]
    assert stored.hash == hash_of({"items": items})
    assert items == body["items"][: len(items)]
    assert 900 < len(items) < 1100
    assert shelf.part(shelf.owed()["os"], 1) == OS
    assert shelf.owed()["os"].hash == hash_of(dict(reversed(OS.items())))


@pytest.mark.parametrize("count", [6500, 9000, 20_000])
def test_many_packages_all_fit_the_parts(tmp_path: Path, count: int) -> None:
    body = packages(count, version="1:2.36-9+deb12u10-really-long")
    put_sections(tmp_path, {"packages": body})
    stored = Shelf(tmp_path).owed()["packages"]
    assert (stored.hash, stored.parts <= PARTS_MAX) == (hash_of(body), True)


def test_what_was_collected_anew_takes_the_place_of_the_old_and_leaves_the_others(tmp_path: Path) -> None:
    put_sections(tmp_path, {"packages": packages(2), "os": OS})
    shelf = Shelf(tmp_path)
    before = shelf.owed()
    put_sections(tmp_path, {"packages": packages(3)})
    assert shelf.part(before["packages"], 1) is None
    shelf.refresh()
    assert shelf.owed()["packages"].hash == hash_of(packages(3))
    assert shelf.owed()["os"] == before["os"]
    assert len(list(tmp_path.glob("*.parts"))) == 2
    assert (tmp_path / "index.json").stat().st_mode & 0o777 == 0o600


async def test_a_section_is_sent_until_it_is_acknowledged_and_not_when_nobody_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "FIRST_RETRY_SECONDS", 0.01)
    put_sections(tmp_path, {"packages": packages(1500), "os": OS})
    shelf = Shelf(tmp_path)
    shelf.hub_holds({"os": hash_of(OS)})
    sent: list[Inventory] = []
    wanted = False

    async def send(frame: AgentFrame) -> None:
        assert isinstance(frame, Inventory)
        assert len(encode(frame)) <= FRAME_MAX_BYTES
        sent.append(frame)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(InventorySender(shelf, send, lambda: wanted, 0.01).run(), name="sender")
        await until(shelf._sections.__len__)
        await asyncio.sleep(0)
        assert sent == []
        wanted = True
        shelf.refresh()
        parts = shelf.owed()["packages"].parts
        await until(lambda: len(sent) >= 2 * parts)
        assert [(frame.section, frame.part, frame.parts) for frame in sent[:parts]] == [
            ("packages", number, parts) for number in range(1, parts + 1)
        ]
        shelf.acknowledge("packages", sent[0].hash)
        await until(lambda: not shelf.owed())
        task.cancel()


async def test_the_parts_stop_once_nobody_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PART_PAUSE_SECONDS", 0.0)
    put_sections(tmp_path, {"packages": packages(1500)})
    sent: list[AgentFrame] = []

    async def send(frame: AgentFrame) -> None:
        sent.append(frame)

    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await InventorySender(Shelf(tmp_path), send, lambda: not sent, ack_timeout_seconds=0.01).run()
    assert len(sent) == 1


async def test_what_was_collected_anew_in_a_session_is_sent_at_once(tmp_path: Path) -> None:
    put_sections(tmp_path, {"os": OS})
    shelf = Shelf(tmp_path)
    shelf.hub_holds({"os": hash_of(OS)})
    sent: asyncio.Queue[AgentFrame] = asyncio.Queue(4)
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        task = group.create_task(InventorySender(shelf, sent.put, lambda: True, 30.0).run(), name="sender")
        await asyncio.sleep(0)
        put_sections(tmp_path, {"os": OS | {"version": "13"}})
        shelf.refresh()
        frame = await sent.get()
        assert isinstance(frame, Inventory)
        assert frame.body["version"] == "13"
        task.cancel()


async def test_this_machine_is_collected_in_a_process_of_its_own(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "inventory")
    assert await InventoryCollector(tmp_path / "inventory", shelf, lambda: True).collect() == {}
    owed = shelf.owed()
    assert {"hardware", "os"} <= set(owed) <= {section.value for section in Section}
    for name, stored in owed.items():
        part = shelf.part(stored, 1)
        msgspec.convert(part, SECTIONS[Section(name)])


@pytest.mark.usefixtures("hurried")
async def test_the_hub_gets_the_sections_it_does_not_hold_and_the_next_session_sends_none(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async def hold(peer: Peer) -> None:
        for name, hash_ in held.items():
            await peer.send(InventoryAck(section=name, hash=hash_))

    held: dict[str, str] = {}
    hub = Hub(welcome={"inventory": {"os": hash_of(OS)}})
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        put_sections(places.inventory, {"packages": packages(1500), "os": OS, "services": packages(2)})
        async with alive(places) as agent:
            peer = await hub.peer(1)
            first = await peer.first(Inventory)
            frames = await peer.several(first.parts, Inventory, lambda frame: frame.section == "packages")
            assert hash_of({"items": [item for frame in frames for item in frame.body["items"]]}) == first.hash
            held["packages"] = first.hash
            await hold(peer)
            held["services"] = (await peer.first(Inventory, lambda frame: frame.section == "services")).hash
            await hold(peer)
            await until(lambda: not agent._shelf.owed())
            hub.welcome = {"inventory": held | {"os": "another"}}
            peer.drop()
            agent.reload()
            second = await hub.peer(2)
            await second.first(Inventory)
            assert [frame.section for frame in second.all(Inventory)] == ["os"]
            assert second.all(Hello)
