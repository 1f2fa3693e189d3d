from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.spool import EVENTS_MAX, LANES, STREAMS, Spool, SpoolBound, Stream
from protocol.frames import MetricValue
from tests.agent_client.clock import DrivenClock

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
    return spool.append_sample(lane, clock.now_ms(), "system", DATA)


def seqs(spool: Spool, stream: Stream = "live") -> list[int]:
    return [sample.seq for sample in spool.samples(stream, limit=10_000)]


def gaps(spool: Spool) -> list[dict[str, MetricValue]]:
    return [event.data for event in spool.events(limit=1000) if event.kind == "gap"]


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
    count = 1000
    for number in range(count):
        clock.advance(10)
        spool.append_sample("backfill" if number < 300 else "live", clock.now_ms(), "system", BIG)
    assert spool.used_bytes() <= 512 * 1024
    kept = seqs(spool, "backfill") + seqs(spool, "live")
    dropped = spool.dropped()
    assert sum(dropped.values()) == count - len(kept)
    assert seqs(spool, "backfill") == []
    assert dropped["backfill"] == 300
    assert seqs(spool)[-1] == 700
    assert seqs(spool) == list(range(seqs(spool)[0], 701))
    assert sum(cast("int", gap["dropped"]) for gap in gaps(spool)) == sum(dropped.values())
    assert len(gaps(spool)) < count / 5
    assert {gap["cause"] for gap in gaps(spool)} == {"bytes"}


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


def test_samples_that_a_full_disk_refused_are_counted_and_said_once_it_takes_them_again(
    database: Database, clock: DrivenClock
) -> None:
    spool = Spool(database, clock, ROOMY)
    add(spool, clock)
    pages = database.number("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {pages}")
    lost = 0
    for _ in range(100):
        try:
            spool.append_sample("live", clock.now_ms(), "system", BIG)
        except DatabaseError:
            lost += 1
    assert lost > 0
    assert spool.dropped() == {"live": lost}
    kept = len(seqs(spool))
    database.rows("PRAGMA max_page_count = 100000")
    add(spool, clock)
    assert seqs(spool) == list(range(1, kept + 2))
    assert spool.dropped() == {"live": lost}
    assert [(gap["cause"], gap["dropped"]) for gap in gaps(spool)] == [("disk", lost)]


def test_events_are_bounded_too(database: Database, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_client.spool.spool.EVENTS_MAX", 20)
    assert EVENTS_MAX > 20
    spool = Spool(database, clock, ROOMY)
    for _ in range(25):
        spool.append_event("gap", {})
    assert [event.seq for event in spool.events()] == list(range(6, 26))
    assert spool.dropped() == {"events": 5}


def test_the_files_are_for_their_owner_alone(database: Database, clock: DrivenClock, tmp_path: Path) -> None:
    add(Spool(database, clock, ROOMY), clock)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"spool.db": 0o600, "spool.db-wal": 0o600, "spool.db-shm": 0o600}


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


class SpoolMachine(RuleBasedStateMachine):
    """A spool against a plain model, across restarts: nothing is lost, renumbered or shown twice."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = DrivenClock()
        self.held: dict[Stream, dict[int, int]] = {stream: {} for stream in STREAMS}
        self.newest: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        self.open()
        self.epochs = {stream: self.spool.epoch(stream) for stream in STREAMS}

    def open(self) -> None:
        self.database = Database(Path(self.folder.name) / "spool.db")
        self.spool = Spool(self.database, self.clock, ROOMY, owner="agent-1")

    @rule(lane=st.sampled_from(LANES), seconds=st.integers(0, 100))
    def sample(self, lane: Stream, seconds: int) -> None:
        self.clock.advance(seconds)
        sequence = self.spool.append_sample(lane, self.clock.now_ms(), "system", DATA)
        assert sequence == self.newest[lane] + 1
        self.newest[lane] = sequence
        self.held[lane][sequence] = self.clock.now_ms()

    @rule()
    def event(self) -> None:
        sequence = self.spool.append_event("collector_failing", {})
        assert sequence == self.newest["events"] + 1
        self.newest["events"] = sequence
        self.held["events"][sequence] = self.clock.now_ms()

    @rule(
        stream=st.sampled_from(STREAMS),
        ranges=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10)), max_size=4),
        is_other_epoch=st.booleans(),
    )
    def acknowledge(self, stream: Stream, ranges: list[tuple[int, int]], is_other_epoch: bool) -> None:
        closed = [(first, first + length) for first, length in ranges]
        epoch = self.epochs[stream] + is_other_epoch
        gone = self.spool.acknowledge(stream, epoch, closed)
        hit = {seq for seq in self.held[stream] if any(first <= seq <= last for first, last in closed)}
        if is_other_epoch:
            hit = set()
        assert gone == len(hit)
        for sequence in hit:
            del self.held[stream][sequence]

    @rule()
    def restart(self) -> None:
        self.database.close()
        self.open()

    @rule(days=st.integers(1, 4))
    @precondition(lambda self: any(self.held.values()))
    def age(self, days: int) -> None:
        self.clock.advance(days * 86400)
        self.spool.trim_age()
        horizon = self.clock.now_ms() - 72 * 3600 * 1000
        for lane in LANES:
            old = [seq for seq, ts in self.held[lane].items() if ts < horizon]
            for sequence in old:
                del self.held[lane][sequence]
            if old:
                self.newest["events"] += 1
                self.held["events"][self.newest["events"]] = self.clock.now_ms()

    @invariant()
    def shows_exactly_what_it_holds(self) -> None:
        for lane in LANES:
            shown = {sample.seq: sample.ts for sample in self.spool.samples(lane, limit=10_000)}
            assert shown == self.held[lane]
        assert [event.seq for event in self.spool.events(limit=10_000)] == sorted(self.held["events"])
        states = self.spool.states()
        for stream, state in zip(STREAMS, (states.live, states.backfill, states.events), strict=True):
            assert (state.epoch, state.newest) == (self.epochs[stream], self.newest[stream])
            assert state.oldest == min(self.held[stream], default=state.newest + 1)

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
