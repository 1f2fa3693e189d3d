"""A spool against a hub that comes and goes: nothing is lost but what gaps say, and they say it exactly."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_client.execution.journal import Journal
from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.gaps import RENEWED, Gap
from agent_client.spool.history import History
from agent_client.spool.ledger import LANES, STREAMS, Stream
from agent_client.spool.spool import Spool, SpoolBound
from agent_client.store.secure import SecureStore
from protocol.enumerations import CommandOutcome
from protocol.frames import CommandResult, MetricData, StreamAck
from protocol.ranges import SequenceRanges
from tests.agent_client.clock import DrivenClock
from tests.agent_client.fleet import Fleet

FAST = Path("/dev/shm")
BOUND = SpoolBound(max_bytes=100 * 1024, max_age_seconds=3600)
JOURNAL_BYTES = 32 * 1024
PADDING = "x" * 700
FLEET = Fleet()

Key = tuple[Stream, int, int]
Said = tuple[str, int, str, int, int]


class Spooling(RuleBasedStateMachine):
    """`hub` is what it stored, by stream, epoch and sequence: the first to come under a number counts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr("agent_client.spool.spool._EVENTS_KEPT", 3)
        self.clock = DrivenClock()
        self.hub: dict[Key, str] = {}
        self.gaps: set[Said] = set()
        self.acknowledged: set[Key] = set()
        self.revived: set[tuple[Stream, int]] = set()
        self.owed: dict[str, Key] = {}
        self.forgiven: set[str] = set()
        self.results: set[str] = set()
        self.count = 0
        self.snapshot: set[str] | None = None
        self.snapshot_results: set[str] = set()
        self.is_connected = False
        self.open()

    def open(self) -> None:
        self.database = Database(self.folder / "spool.db")
        self.spool = Spool(self.database, self.clock, BOUND, owner="agent-1")
        self.disk_is_full = False
        marks = SecureStore(self.folder / "marks")
        self.history = History(self.database, self.spool, marks, "agent-1")
        self.history.open()
        self.journal = Journal(self.database, self.clock)
        self.is_connected = False

    def close(self) -> None:
        self.history.close()
        self.database.close()

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    @rule(lane=st.sampled_from(LANES), count=st.integers(1, 40))
    def sample(self, lane: Stream, count: int) -> None:
        names = [self.name() for _ in range(count)]
        readings: list[tuple[str, MetricData]] = [(name, {"padding": PADDING}) for name in names]
        self.clock.advance(1)
        try:
            self.spool.append_samples(lane, self.clock.now_ms(), readings)
        except DatabaseError:
            assert self.disk_is_full
            return
        last = self.spool.newest()[lane]
        for index, name in enumerate(names):
            self.owed[name] = (lane, self.spool.epoch(lane), last - count + 1 + index)

    @rule(count=st.integers(1, 12))
    def event(self, count: int) -> None:
        for _ in range(count):
            name = self.name()
            try:
                sequence = self.spool.append_event(name, {"padding": PADDING})
            except DatabaseError:
                assert self.disk_is_full
                assert not any(self.spool.waiting()[lane] for lane in LANES)
            else:
                self.owed[name] = ("events", self.spool.epoch("events"), sequence)

    @rule()
    def result(self) -> None:
        name = self.name()
        try:
            self.journal.accept(FLEET.envelope(name, ["true"]), b"payload")
            self.journal.finish(CommandResult(command_id=name, status=CommandOutcome.COMPLETED))
        except DatabaseError:
            assert self.disk_is_full
        else:
            self.results.add(name)

    @rule()
    def connect(self) -> None:
        try:
            self.spool.reconcile(self.acks())
        except DatabaseError:
            assert self.disk_is_full
        else:
            self.is_connected = True
        self.find_entries()

    def find_entries(self) -> None:
        """Learn anew under what numbers entries wait."""
        for stream in STREAMS:
            for seq, name, _ in self.entries(stream, 0, 100_000):
                if name in self.owed:
                    self.owed[name] = (stream, self.spool.epoch(stream), seq)

    @rule(
        stream=st.sampled_from(STREAMS),
        after=st.integers(0, 60),
        limit=st.integers(1, 80),
        is_acknowledged=st.booleans(),
    )
    @precondition(lambda self: self.is_connected)
    def deliver(self, stream: Stream, after: int, limit: int, is_acknowledged: bool) -> None:
        epoch = self.spool.epoch(stream)
        taken = SequenceRanges()
        if stream == "events":
            self.spool.events(limit=1)
        for seq, name, gap in self.entries(stream, after, limit):
            self.hub.setdefault((stream, epoch, seq), name)
            self.gaps |= gap
            taken.add(seq)
        if is_acknowledged:
            self.spool.acknowledge(stream, epoch, taken)
            self.acknowledged |= {(stream, epoch, seq) for first, last in taken for seq in range(first, last + 1)}

    def entries(self, stream: Stream, after: int, limit: int) -> Iterator[tuple[int, str, set[Said]]]:
        """Yield what waits, as it is on disk: sequence, name, and the gap that it tells of."""
        for entry in self.spool._ledger.entries(stream, after, limit):
            gaps = {said_by(msgspec.json.decode(entry.body, type=Gap))} if entry.kind == "gap" else set()
            yield entry.seq, entry.kind, gaps

    @rule()
    def lose_connection(self) -> None:
        self.is_connected = False

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule(seconds=st.integers(1, 5000))
    def age(self, seconds: int) -> None:
        self.clock.advance(seconds)
        try:
            self.spool.trim_age()
        except DatabaseError:
            assert self.disk_is_full

    @rule(is_full=st.booleans())
    def disk(self, is_full: bool) -> None:
        self.disk_is_full = is_full
        pages = self.database.number("PRAGMA page_count") if is_full else 100_000
        self.database.rows(f"PRAGMA max_page_count = {pages}")

    @rule()
    @precondition(lambda self: not self.disk_is_full)
    def back_up(self) -> None:
        self.close()
        shutil.copy(self.folder / "spool.db", self.folder / "backup.db")
        self.open()
        self.snapshot = set(self.owed)
        self.snapshot_results = set(self.results)

    @rule()
    @precondition(lambda self: self.snapshot is not None and not self.disk_is_full)
    def restore(self) -> None:
        assert self.snapshot is not None
        self.close()
        shutil.copy(self.folder / "backup.db", self.folder / "spool.db")
        self.forgiven |= set(self.owed) - self.snapshot
        self.results &= self.snapshot_results
        self.open()
        self.revived |= {(stream, self.spool.epoch(stream)) for stream in STREAMS}
        self.find_entries()
        assert self.database.has_forgotten

    @invariant()
    def nothing_is_lost_but_what_gaps_say(self) -> None:
        stored = set(self.hub.values())
        waiting = {name for stream in STREAMS for _, name, _ in self.entries(stream, 0, 100_000)}
        missing = set(self.owed) - stored - waiting - self.forgiven
        said = self.said()
        assert all(any(gap_has(gap, self.owed[name]) for gap in said) for name in missing)
        assert {entry.command_id for entry in self.journal.open_entries()} == self.results

    @invariant()
    def every_number_of_a_stream_is_stored_waiting_or_in_a_gap(self) -> None:
        said = self.said()
        for stream in STREAMS:
            epoch = self.spool.epoch(stream)
            waiting = {seq for seq, _, _ in self.entries(stream, 0, 100_000)}
            gone = {seq for gap in said if gap[:2] == (stream, epoch) for seq in range(gap[3], gap[4] + 1)}
            held = {seq for kind, of, seq in self.hub if (kind, of) == (stream, epoch)}
            if not self.database.meta("border"):
                assert waiting | gone | held >= set(range(1, self.spool.newest()[stream] + 1))
            if (stream, epoch) not in self.revived:
                assert not waiting & gone
                assert not {seq for kind, of, seq in self.acknowledged if (kind, of) == (stream, epoch)} & gone
            assert self.spool.waiting()[stream] == len(waiting)

    @invariant()
    def it_stays_within_its_bound(self) -> None:
        """What the journal writes is made up for at the next sample or event."""
        assert self.spool.used_bytes() <= BOUND.max_bytes + JOURNAL_BYTES or not any(
            self.spool.waiting()[lane] for lane in LANES
        )

    def said(self) -> set[Said]:
        """Return every gap that the hub was told of, or will be."""
        owed = {said_by(gap) for gap in self.spool._ledger.owed()}
        return self.gaps.union(owed, *(gap for _, _, gap in self.entries("events", 0, 100_000)))

    def acks(self) -> dict[str, StreamAck]:
        acks: dict[str, StreamAck] = {}
        for stream, epoch, seq in self.hub:
            if stream not in acks or acks[stream].epoch != epoch:
                acks[stream] = StreamAck(epoch=epoch, ranges=[])
            acks[stream].ranges.append((seq, seq))
        return acks

    def teardown(self) -> None:
        self.database.close()
        self.patches.undo()
        shutil.rmtree(self.folder)


def said_by(gap: Gap) -> Said:
    return gap.stream, gap.epoch, gap.cause, gap.first_seq, gap.last_seq


def gap_has(gap: Said, key: Key) -> bool:
    stream, epoch, cause, first, last = gap
    return cause != RENEWED and (stream, epoch) == key[:2] and first <= key[2] <= last


TestSpooling = Spooling.TestCase
TestSpooling.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
