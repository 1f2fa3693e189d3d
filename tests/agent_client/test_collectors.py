from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest

from agent_client.collectors.drives import Drive, DriveCollector, fixed_drives
from agent_client.collectors.interfaces import INTERFACES_MAX, InterfaceCollector
from agent_client.collectors.logins import LoginCollector
from agent_client.collectors.machine import boot_id, describe_machine, ipv4_addresses
from agent_client.collectors.processes import Process, ProcessCollector, _of_proc
from agent_client.collectors.system import SystemCollector
from agent_client.collectors.temperature import TemperatureCollector

NAMES = {
    "cpu_percent",
    "cpu_count",
    "load_1m",
    "load_5m",
    "load_15m",
    "memory_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "swap_percent",
    "disk_percent",
    "disk_used_bytes",
    "disk_total_bytes",
    "disk_mount",
    "network_bytes_sent",
    "network_bytes_recv",
    "network_sent_bytes_per_sec",
    "network_recv_bytes_per_sec",
    "uptime_seconds",
    "process_count",
}


def number(figures: dict[str, Any], name: str) -> float:
    value = figures[name]
    assert isinstance(value, int | float)
    return value


def test_a_sample_of_this_machine_has_every_figure_within_its_bounds() -> None:
    figures = dict(SystemCollector().collect()["system"])
    assert set(figures) == NAMES
    for name in ("cpu_percent", "memory_percent", "swap_percent", "disk_percent"):
        assert 0 <= number(figures, name) <= 100
    assert number(figures, "memory_used_bytes") < number(figures, "memory_total_bytes")
    assert number(figures, "process_count") == pytest.approx(len(psutil.pids()), abs=10)
    assert number(figures, "uptime_seconds") > 0


def test_rates_are_over_the_time_between_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Iterator[tuple[int, int]] = iter([(1000, 5000), (3000, 5000), (500, 5000)])
    now: Iterator[float] = iter([10.0, 12.0, 14.0, 15.0, 16.0, 17.0])

    def counters(pernic: bool) -> dict[str, Any]:
        sent, received = next(counts)
        eth0 = SimpleNamespace(bytes_sent=sent, bytes_recv=received)
        return {"lo": SimpleNamespace(bytes_sent=10**9, bytes_recv=10**9), "eth0": eth0}

    monkeypatch.setattr(psutil, "net_io_counters", counters)
    collector = SystemCollector(lambda: next(now))
    first = collector._network()
    assert (first["network_bytes_sent"], first["network_sent_bytes_per_sec"]) == (3000, 1000.0)
    assert first["network_recv_bytes_per_sec"] == 0.0
    assert collector._network()["network_sent_bytes_per_sec"] == 0.0


def partition(device: str, mount: str, kind: str, opts: str = "rw") -> SimpleNamespace:
    return SimpleNamespace(device=device, mountpoint=mount, fstype=kind, opts=opts)


def test_the_fullest_fixed_file_system_is_shown_and_images_and_networks_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = [
        partition("/dev/sda1", "/", "ext4"),
        partition("/dev/sda1", "/bind", "ext4"),
        partition("/dev/sdb1", "/data", "xfs"),
        partition("/dev/loop0", "/snap/core", "squashfs", "ro"),
        partition("nas:/share", "/nas", "nfs4"),
        partition("/dev/sr0", "/cd", "iso9660", "ro,cdrom"),
    ]
    asked: list[str] = []

    def usage(mount: str) -> SimpleNamespace:
        asked.append(mount)
        percent = {"/": 40.0, "/data": 95.0}[mount]
        return SimpleNamespace(percent=percent, used=int(percent), total=100)

    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: parts)
    monkeypatch.setattr(psutil, "disk_usage", usage)
    disk = SystemCollector()._disk()
    assert (disk["disk_percent"], disk["disk_mount"]) == (95.0, "/data")
    assert asked == ["/", "/data"]


def test_a_machine_without_listed_file_systems_shows_its_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [])
    assert fixed_drives() == [Drive("/", "", "")]


def test_addresses_are_ipv4_without_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    def address(family: int, text: str) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=text)

    found = {
        "lo": [address(socket.AF_INET, "127.0.0.1")],
        "eth0": [address(socket.AF_INET, "10.0.0.5"), address(socket.AF_INET6, "fe80::1")],
        "eth1": [address(socket.AF_INET, "10.0.0.5"), address(socket.AF_INET, "192.0.2.7")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    assert ipv4_addresses() == ["10.0.0.5", "192.0.2.7"]


def test_the_machine_is_described_by_what_it_is() -> None:
    machine = describe_machine()
    assert machine.hostname == socket.gethostname()
    assert machine.os == "linux"
    assert machine.cpu_count >= 1
    assert machine.memory_total_bytes == psutil.virtual_memory().total
    assert boot_id() == boot_id() != ""


def test_each_fixed_file_system_has_its_own_sample_with_rates_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [partition("/dev/sda1", "/", "ext4"), partition("nas:/share", "/nas", "nfs4")]
    written: Iterator[int] = iter([1000, 5000])
    now: Iterator[float] = iter([100.0, 102.0])

    def counters(**_: bool) -> dict[str, Any]:
        return {"sda1": SimpleNamespace(read_bytes=7, write_bytes=next(written))}

    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: parts)
    monkeypatch.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(percent=40.0, used=4, total=10))
    monkeypatch.setattr(psutil, "disk_io_counters", counters)
    collector = DriveCollector(lambda: next(now))
    assert "write_bytes_per_sec" not in collector.collect()["disk./"]
    readings = collector.collect()
    assert list(readings) == ["disk./"]
    disk = readings["disk./"]
    assert (disk["mount"], disk["fs_type"], disk["percent"], disk["write_bytes"]) == ("/", "ext4", 40.0, 5000)
    assert (disk["write_bytes_per_sec"], disk["read_bytes_per_sec"]) == (2000.0, 0.0)


def test_a_name_of_the_machine_that_is_no_text_can_travel_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = "/mnt/\udcff" + "x" * 300
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [partition("/dev/sdb1", strange, "ext4")])
    monkeypatch.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(percent=1.0, used=1, total=100))
    ((metric_type, figures),) = DriveCollector().collect().items()
    msgspec.json.encode([metric_type, figures])
    assert len(metric_type) == 128


class Cables:
    """psutil's view of interfaces, which tests change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **received: int) -> None:
        self.received = received
        self.down: set[str] = set()
        monkeypatch.setattr(psutil, "net_io_counters", lambda **_: {n: self.counters(n) for n in self.received})
        monkeypatch.setattr(psutil, "net_if_stats", lambda: {name: self.state(name) for name in self.received})

    def counters(self, name: str) -> SimpleNamespace:
        got = self.received[name]
        return SimpleNamespace(bytes_sent=0, bytes_recv=got, errin=1, errout=0, dropin=0, dropout=0)

    def state(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(isup=name not in self.down, speed=1000)


def test_an_interface_has_counters_and_rates_and_says_once_that_it_went_down(monkeypatch: pytest.MonkeyPatch) -> None:
    cables = Cables(monkeypatch, lo=9, veth12=9, eth0=100, eth1=7)
    cables.down.add("eth1")
    now: Iterator[float] = iter([10.0, 12.0, 14.0, 16.0])
    collector = InterfaceCollector(lambda: next(now))
    assert list(collector.collect()) == ["interface.eth0"]
    cables.received["eth0"] = 300
    figures = collector.collect()["interface.eth0"]
    assert (figures["recv_bytes_per_sec"], figures["bytes_recv"], figures["errors_in"]) == (100.0, 300, 1)
    assert (figures["up"], figures["speed_mbps"]) == (True, 1000)
    cables.down.add("eth0")
    assert collector.collect() == {"interface.eth0": {"up": False}}
    assert collector.collect() == {}


def test_of_many_interfaces_those_shown_before_stay_and_then_the_busiest_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cables = Cables(monkeypatch, **{f"eth{number:02}": number for number in range(20)})
    collector = InterfaceCollector()
    first = collector.collect()
    assert sorted(first) == [f"interface.eth{number}" for number in range(12, 20)]
    assert len(first) == INTERFACES_MAX
    cables.received["eth00"] = 10**9
    assert sorted(collector.collect()) == sorted(first)


def test_temperatures_are_one_field_a_sensor_and_a_dead_sensor_or_a_disk_is_left_out(tmp_path: Path) -> None:
    def sensor(chip: str, name: str, number: int, content: str, label: str = "") -> None:
        folder = tmp_path / "hwmon" / chip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / f"temp{number}_input").write_text(content)
        if label:
            (folder / f"temp{number}_label").write_text(label)

    sensor("hwmon0", "coretemp", 1, "48000\n", "Package id 0")
    sensor("hwmon0", "coretemp", 2, "47500\n", "Core 0")
    sensor("hwmon1", "nvme", 1, "-274000\n")
    sensor("hwmon2", "drivetemp", 1, "31000\n")
    sensor("hwmon3", "iwlwifi", 1, "")
    sensor("hwmon4", "coretemp", 1, "50000\n", "Package id 0")
    assert TemperatureCollector(tmp_path / "hwmon", tmp_path / "zones").collect() == {
        "temperature": {
            "coretemp_package_id_0_celsius": 48.0,
            "coretemp_core_0_celsius": 47.5,
            "coretemp_package_id_0_2_celsius": 50.0,
        }
    }


def test_a_machine_without_sensors_has_no_temperature_sample(tmp_path: Path) -> None:
    zone = tmp_path / "zones" / "thermal_zone0"
    zone.mkdir(parents=True)
    assert TemperatureCollector(tmp_path / "hwmon", tmp_path / "zones").collect() == {}
    (zone / "temp").write_text("40000")
    (zone / "type").write_text("x86_pkg_temp")
    found = TemperatureCollector(tmp_path / "hwmon", tmp_path / "zones").collect()
    assert found == {"temperature": {"x86_pkg_temp_celsius": 40.0}}


def test_the_top_is_by_processor_and_then_by_memory_and_a_pid_used_again_starts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    now: Iterator[float] = iter([100.0, 110.0])
    rounds: Iterator[list[Process]] = iter(
        [
            [Process(pid, 1.0, f"p{pid}", 50.0, pid) for pid in range(1, 31)],
            [
                Process(1, 1.0, "busy", 60.0, 1),
                Process(2, 9.0, "again", 5.0, 2),
                *[Process(pid, 1.0, f"p{pid}", 50.0, pid) for pid in range(3, 31)],
            ],
        ]
    )
    collector = ProcessCollector(lambda: next(rounds), lambda pid: f"user{pid}", lambda: next(now))
    collector.collect()
    processes = collector.collect()["process_top"]["processes"]
    assert isinstance(processes, list)
    assert [one["name"] for one in processes] == ["busy", "again", *(f"p{pid}" for pid in range(30, 22, -1))]
    assert [one["cpu_percent"] for one in processes[:3]] == [50.0, 25.0, 0.0]
    assert processes[0]["user"] == "user1"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc there")
def test_this_process_is_found_with_its_name_owner_and_memory_and_without_its_arguments() -> None:
    found = {process.pid: process for process in _of_proc()}
    own = found[os.getpid()]
    assert own.memory_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert own.name == psutil.Process().name()[:15]
    collector = ProcessCollector(lambda: [own])
    collector.collect()
    processes = collector.collect()["process_top"]["processes"]
    assert isinstance(processes, list)
    process = processes[0]
    assert set(process) == {"pid", "name", "user", "cpu_percent", "memory_bytes"}
    assert process["user"] == psutil.Process().username()


def test_logins_say_who_from_where_and_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    users = [
        SimpleNamespace(name="ada", host="192.0.2.1", started=200.5),
        SimpleNamespace(name="bob", host=None, started=100.0),
    ]
    monkeypatch.setattr(psutil, "users", lambda: users)
    assert LoginCollector().collect()["logins"]["sessions"] == [
        {"user": "bob", "host": "", "since_ms": 100_000},
        {"user": "ada", "host": "192.0.2.1", "since_ms": 200_500},
    ]
