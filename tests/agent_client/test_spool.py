from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from agent_client.execution.journal import Journal
from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.ledger import STREAMS, Stream
from agent_client.spool.reserve import RESERVE_BYTES
from agent_client.spool.spool import Spool, SpoolBound
from protocol.enumerations import CommandOutcome
from protocol.frames import CommandResult, MetricValue
from tests.agent_client.clock import DrivenClock
from tests.agent_client.fleet import Fleet

ROOMY = SpoolBound(max_bytes=64 * 1024 * 1024, max_age_seconds=72 * 3600)
DATA: dict[str, MetricValue] = {"cpu_percent": 12.5, "disk_mount": "/"}
BIG: dict[str, MetricValue] = {f"value_{number}": "x" * 50 for number in range(20)}


@pytest.fixture
def clock() -> DrivenClock:
    return DrivenClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "spool.db")
    yield database
    database.close()


def add(spool: Spool, clock: DrivenClock, lane: Stream = "live") -> int:
    spool.append_samples(lane, clock.now_ms(), [("system", DATA)])
    return spool.newest()[lane]


def seqs(spool: Spool, stream: Stream = "live") -> list[int]:
    return [sample.seq for sample in spool.samples(stream, limit=10_000)]


def gaps(spool: Spool) -> list[dict[str, MetricValue]]:
    return [event.data for event in spool.events(limit=1000) if event.kind == "gap"]


def fill(database: Database) -> None:
    """Let the disk take no further page."""
    pages = database.number("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {pages}")


def refused(spool: Spool, clock: DrivenClock) -> int:
    """Append until a sample is refused, and some more. Returns how many were."""
    lost = 0
    for _ in range(100):
        try:
            spool.append_samples("live", clock.now_ms(), [("system", BIG)])
        except DatabaseError:
            lost += 1
            if lost == 3:
                break
    return lost


def test_a_sample_stays_until_its_sequence_of_its_epoch_is_acknowledged(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, ROOMY)
    assert [add(spool, clock) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert spool.acknowledge("live", spool.epoch("live") + 1, [(1, 5)]) == 0
    assert spool.acknowledge("backfill", spool.epoch("backfill"), [(1, 5)]) == 0
    assert spool.acknowledge("live", spool.epoch("live"), [(1, 1), (3, 4)]) == 3
    assert seqs(spool) == [2, 5]
    assert [(sample.metric_type, sample.metric_data) for sample in spool.samples("live")] == [("system", DATA)] * 2


def test_samples_come_oldest_first_after_a_sequence_and_within_a_size(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, ROOMY)
    for _ in range(10):
        add(spool, clock)
    assert [sample.seq for sample in spool.samples("live", after=4, limit=3)] == [5, 6, 7]
    assert [sample.seq for sample in spool.samples("live", max_bytes=1)] == [1]
    assert spool.samples("live", after=10) == []


def test_a_restart_keeps_samples_sequences_and_epochs(tmp_path: Path, clock: DrivenClock) -> None:
    database = Database(tmp_path / "spool.db")
    spool = Spool(database, clock, ROOMY, owner="agent-1")
    add(spool, clock)
    add(spool, clock)
    spool.acknowledge("live", spool.epoch("live"), [(1, 2)])
    before = spool.states()
    database.close()
    again = Database(tmp_path / "spool.db")
    spool = Spool(again, clock, ROOMY, owner="agent-1")
    assert spool.states() == before
    assert before.live.oldest == before.live.newest + 1 == 3
    assert add(spool, clock) == 3
    again.close()


def test_another_identitys_spool_is_emptied_and_begins_new_epochs(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, ROOMY, owner="agent-1")
    add(spool, clock)
    other = Spool(database, clock, ROOMY, owner="agent-2")
    assert seqs(other) == []
    assert all(other.epoch(stream) != spool.epoch(stream) for stream in STREAMS)
    assert add(other, clock) == 1


def test_beyond_its_bytes_the_oldest_samples_go_and_the_gap_is_said(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, SpoolBound(max_bytes=512 * 1024, max_age_seconds=72 * 3600))
    count = 600
    for number in range(count):
        clock.advance(10)
        spool.append_samples("backfill" if number < 100 else "live", clock.now_ms(), [("system", BIG)])
    assert spool.used_bytes() <= 512 * 1024
    kept = seqs(spool, "backfill") + seqs(spool, "live")
    dropped = spool.dropped()
    assert sum(dropped.values()) == count - len(kept)
    assert seqs(spool, "backfill") == []
    assert dropped["backfill"] == 100
    assert seqs(spool)[-1] == 500
    assert seqs(spool) == list(range(seqs(spool)[0], 501))
    assert sum(cast("int", gap["dropped"]) for gap in gaps(spool)) == sum(dropped.values())
    first_kept = seqs(spool)[0]
    assert [(gap["stream"], gap["cause"], gap["first_seq"], gap["last_seq"]) for gap in gaps(spool)] == [
        ("backfill", "bytes", 1, 100),
        ("live", "bytes", 1, first_kept - 1),
    ]


def test_beyond_their_age_samples_go_and_the_gap_says_which(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, SpoolBound(max_bytes=64 * 1024 * 1024, max_age_seconds=3600))
    began = clock.now_ms()
    for _ in range(10):
        add(spool, clock, "backfill")
        clock.advance(600)
    clock.advance(1)
    spool.trim_age()
    assert seqs(spool, "backfill") == [6, 7, 8, 9, 10]
    assert spool.dropped() == {"backfill": 5}
    assert gaps(spool) == [
        {
            "stream": "backfill",
            "epoch": spool.epoch("backfill"),
            "cause": "age",
            "dropped": 5,
            "first_seq": 1,
            "last_seq": 5,
            "from_ms": began,
            "to_ms": began + 2_400_000,
        }
    ]
    spool.trim_age()
    assert len(gaps(spool)) == 1


def test_a_gap_has_no_number_that_the_hub_holds(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, SpoolBound(max_bytes=64 * 1024 * 1024, max_age_seconds=3600))
    for _ in range(9):
        add(spool, clock)
    spool.acknowledge("live", spool.epoch("live"), [(3, 3), (6, 7)])
    clock.advance(3601)
    spool.trim_age()
    assert [(gap["first_seq"], gap["last_seq"], gap["dropped"]) for gap in gaps(spool)] == [
        (1, 2, 2),
        (4, 5, 2),
        (8, 9, 2),
    ]


def test_gaps_that_touch_are_one_until_they_are_said(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, SpoolBound(max_bytes=64 * 1024 * 1024, max_age_seconds=60))
    for _ in range(3):
        add(spool, clock)
        clock.advance(61)
        spool.trim_age()
    assert [(gap["first_seq"], gap["last_seq"]) for gap in gaps(spool)] == [(1, 3)]
    add(spool, clock)
    clock.advance(61)
    spool.trim_age()
    assert len(gaps(spool)) == 1
    spool.acknowledge("events", spool.epoch("events"), [(1, 1)])
    assert [(gap["first_seq"], gap["last_seq"]) for gap in gaps(spool)] == [(4, 4)]


def test_events_stay_while_there_are_samples_and_are_bounded_after(
    database: Database, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_client.spool.spool._EVENTS_KEPT", 10)
    spool = Spool(database, clock, SpoolBound(max_bytes=256 * 1024, max_age_seconds=72 * 3600))
    while not spool.dropped():
        spool.append_samples("live", clock.now_ms(), [("system", BIG)])
    while spool.waiting()["live"]:
        spool.append_event("something", BIG)
    assert "events" not in spool.dropped()
    first = 1
    while "events" not in spool.dropped():
        spool.append_event("something", BIG)
    found = spool.events(limit=1000)
    first = found[0].seq
    assert first > 1
    assert spool.used_bytes() <= 256 * 1024
    assert spool.dropped()["events"] == first - 1
    said = {(str(gap["stream"]), gap["first_seq"], gap["last_seq"]) for gap in gaps(spool)}
    assert said == {("events", 1, first - 1), ("live", 1, spool.newest()["live"])}


def test_what_a_full_disk_refused_is_counted_and_said_exactly_once_it_takes_more(
    database: Database, clock: DrivenClock
) -> None:
    spool = Spool(database, clock, ROOMY)
    add(spool, clock)
    fill(database)
    lost = refused(spool, clock)
    assert spool.dropped() == {"live": lost}
    kept = len(seqs(spool))
    assert spool.newest()["live"] == kept
    database.rows("PRAGMA max_page_count = 100000")
    add(spool, clock)
    assert seqs(spool) == [*range(1, kept + 1), kept + lost + 1]
    assert spool.dropped() == {"live": lost}
    assert [(gap["cause"], gap["first_seq"], gap["last_seq"]) for gap in gaps(spool)] == [
        ("disk", kept + 1, kept + lost)
    ]


def test_a_full_disk_takes_events_and_results_at_the_expense_of_old_samples(
    database: Database, clock: DrivenClock
) -> None:
    spool = Spool(database, clock, ROOMY)
    journal = Journal(database, clock)
    for _ in range(300):
        spool.append_samples("live", clock.now_ms(), [("system", BIG)])
    fill(database)
    refused(spool, clock)
    journal.accept(Fleet().envelope("job-1", ["true"]), b"payload" * 500)
    journal.finish(CommandResult(command_id="job-1", status=CommandOutcome.COMPLETED, result="x" * 4000))
    count = 100
    for _ in range(count):
        spool.append_event("something", BIG)
    assert [event.kind for event in spool.events(limit=1000)].count("something") == count
    assert [entry.result and entry.result.result for entry in journal.open_entries()] == ["x" * 4000]
    assert [event.data["dropped"] for event in spool.events(limit=1000) if event.kind == "spool_full"] == [1]
    assert "disk" in {gap["cause"] for gap in gaps(spool)}
    assert seqs(spool)[0] > 1


def test_the_reserve_is_spent_when_the_disk_is_full_and_put_back_after(
    database: Database, clock: DrivenClock, tmp_path: Path
) -> None:
    spool = Spool(database, clock, ROOMY)
    reserve = tmp_path / "spool.reserve"
    assert reserve.stat().st_size == RESERVE_BYTES
    fill(database)
    refused(spool, clock)
    with suppress(DatabaseError):
        while reserve.exists():
            spool.append_event("something", BIG)
    database.rows("PRAGMA max_page_count = 100000")
    add(spool, clock)
    assert reserve.stat().st_size == RESERVE_BYTES


def test_the_samples_of_one_moment_are_there_together_or_not_at_all(database: Database, clock: DrivenClock) -> None:
    spool = Spool(database, clock, ROOMY)
    fill(database)
    with suppress(DatabaseError):
        while not spool.dropped():
            spool.append_samples("live", clock.now_ms(), [("system", BIG), ("disk./", BIG), ("agent", BIG)])
    kinds = [sample.metric_type for sample in spool.samples("live")]
    assert len(kinds) % 3 == 0
    assert spool.dropped() == {"live": 3}


def test_a_spool_of_the_version_before_is_taken_over(tmp_path: Path, clock: DrivenClock) -> None:
    """Its gap events say no epoch; it can also read what this version leaves."""
    database = Database(tmp_path / "spool.db")
    spool = Spool(database, clock, SpoolBound(max_bytes=512 * 1024, max_age_seconds=3600), owner="agent-1")
    add(spool, clock)
    gap = b'{"stream":"live","cause":"age","dropped":2,"first_seq":7,"last_seq":9,"from_ms":1,"to_ms":2}'
    with database.transaction():
        database.execute("UPDATE streams SET newest = 1 WHERE name = 'events'")
        database.execute("INSERT INTO entries VALUES ('events', 1, 5, 'gap', ?)", (gap,))
        database.execute("DELETE FROM meta WHERE key <> 'owner'")
    before = spool.states()
    database.close()
    database = Database(tmp_path / "spool.db")
    spool = Spool(database, clock, ROOMY, owner="agent-1")
    assert spool.states() == before
    assert spool.waiting() == {"live": 1, "backfill": 0, "events": 1}
    assert database.number("PRAGMA user_version") == 1
    with database.transaction():
        spool._ledger.drop_oldest("events", 1, "bytes")
    assert [(gap["epoch"], gap["first_seq"], gap["last_seq"]) for gap in gaps(spool)] == [
        (spool.epoch("events"), 1, 1),
        (0, 7, 9),
    ]
    database.close()


def test_the_files_are_for_their_owner_alone(database: Database, clock: DrivenClock, tmp_path: Path) -> None:
    add(Spool(database, clock, ROOMY), clock)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    names = ("spool.db", "spool.db-wal", "spool.db-shm", "spool.reserve")
    assert modes == dict.fromkeys(names, 0o600)


def test_every_commit_is_synced_in_full(database: Database) -> None:
    assert database.number("PRAGMA synchronous") == 2
    assert database.rows("PRAGMA journal_mode") == [("wal",)]


def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(tmp_path: Path, clock: DrivenClock) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"this is no database" * 1000)
    path.chmod(0o600)
    database = Database(path)
    assert database.replaced == tmp_path / "spool.damaged"
    assert database.replaced.read_bytes().startswith(b"this is no database")
    assert add(Spool(database, clock, ROOMY), clock) == 1
    database.close()
