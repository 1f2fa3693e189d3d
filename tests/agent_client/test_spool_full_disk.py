"""A disk that is really full: a small file system of its own, and somebody else who takes all that is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent_client.execution.journal import Journal
from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.history import History
from agent_client.spool.spool import Spool, SpoolBound
from agent_client.store.secure import SecureStore
from protocol.enumerations import CommandOutcome
from protocol.frames import CommandResult, MetricValue
from tests.agent_client.clock import DrivenClock
from tests.agent_client.fleet import AGENT, Fleet

BOUND = SpoolBound(max_bytes=64 * 1024 * 1024, max_age_seconds=72 * 3600)
BIG: dict[str, MetricValue] = {f"value_{number}": "x" * 50 for number in range(20)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        assert "CI" not in os.environ, "only who may mount a file system can fill one"
        pytest.skip("only who may mount a file system can fill one")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def begin(disk: Path, clock: DrivenClock) -> tuple[Database, Spool]:
    database = Database(disk / "agent" / "spool.db")
    spool = Spool(database, clock, BOUND, owner=AGENT)
    History(database, spool, SecureStore(disk / "agent" / "marks"), AGENT).open()
    return database, spool


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def test_on_a_full_disk_events_results_and_acknowledgements_go_on_and_samples_return_by_themselves(
    small_disk: Path,
) -> None:
    clock = DrivenClock()
    database, spool = begin(small_disk, clock)
    journal = Journal(database, clock)
    with suppress(DatabaseError):
        while True:
            spool.append_samples("live", clock.now_ms(), [("system", BIG)])
    filler = fill(small_disk)
    for _ in range(100):
        spool.append_event("something", BIG)
    journal.accept(Fleet().envelope("job-1", ["true"]), b"payload" * 500)
    journal.finish(CommandResult(command_id="job-1", status=CommandOutcome.COMPLETED, result="x" * 4000))
    spool.settle()
    database.close()

    database, spool = begin(small_disk, clock)
    assert [event.kind for event in spool.events(limit=1000)].count("something") == 100
    assert len(Journal(database, clock).open_entries()) == 1
    first = spool.samples("live")[0].seq
    assert spool.dropped() == {"live": first}
    for seq in range(1, spool.newest()["live"], 100):
        spool.acknowledge("live", spool.epoch("live"), [(seq, seq + 99)])
    spool.append_samples("live", clock.now_ms(), [("system", BIG)])
    filler.unlink()
    spool.append_samples("live", clock.now_ms(), [("system", BIG)])
    gaps = [event.data for event in spool.events(limit=1000) if event.kind == "gap"]
    lost = spool.samples("live")[0].seq - 1
    assert [(gap["cause"], gap["first_seq"], gap["last_seq"]) for gap in gaps] == [
        ("disk", 1, first - 1),
        ("disk", lost, lost),
    ]
    database.close()
