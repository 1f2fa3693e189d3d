from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from agent_client.collectors.machine import boot_id, describe_machine, ipv4_addresses
from agent_client.collectors.system import SystemCollector, fixed_mounts

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
    figures = SystemCollector().collect()
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
    assert fixed_mounts() == ["/"]


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
