"""The spool: numbered streams that survive crashes and lost connections, inside a bound of bytes and age."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from agent_client.clock import Clock
from agent_client.spool.database import Database, DatabaseError, Row
from protocol.frames import Event, MetricData, MetricValue, Sample, StreamState, StreamStates
from protocol.limits import SAMPLES_PER_FRAME_MAX

Stream = Literal["live", "backfill", "events"]
STREAMS: Final[tuple[Stream, ...]] = ("live", "backfill", "events")
LANES: Final[tuple[Stream, ...]] = ("live", "backfill")
EVENTS_MAX: Final = 10_000
GAP: Final = "gap"
_EPOCH_BITS: Final = 52
_TRIMMED_AT_ONCE: Final = 1 / 64
_DROPPED_AT_ONCE: Final = 64
_OWNER: Final = "owner"

_data_decoder: Final[msgspec.json.Decoder[dict[str, MetricValue]]] = msgspec.json.Decoder(dict[str, MetricValue])


class SpoolBound(Struct, frozen=True):
    max_bytes: int
    max_age_seconds: float


class _Gap(NamedTuple):
    """Samples that fell out of the spool before the hub held them; sequences and times both included."""

    dropped: int
    first_seq: int
    last_seq: int
    from_ms: int
    to_ms: int

    def joined(self, later: _Gap) -> _Gap:
        return _Gap(
            self.dropped + later.dropped,
            min(self.first_seq, later.first_seq),
            max(self.last_seq, later.last_seq),
            min(self.from_ms, later.from_ms),
            max(self.to_ms, later.to_ms),
        )


class Spool:
    """Three streams, each with a random epoch and a sequence that never repeats.

    What is appended is on disk when the call returns, and stays until it is acknowledged or falls out of the bound;
    then its stream's `dropped` grows and a `gap` event says what is missing. `appended[stream]` is set at each append.
    """

    def __init__(self, database: Database, clock: Clock, bound: SpoolBound, owner: str = "") -> None:
        """`owner` is the agent's id: a spool that another identity filled is emptied, and begins new epochs."""
        self.bound = bound
        self.appended: Mapping[Stream, asyncio.Event] = {stream: asyncio.Event() for stream in STREAMS}
        self._database = database
        self._clock = clock
        self._unwritten: dict[Stream, int] = dict.fromkeys(LANES, 0)
        with database.transaction():
            if database.meta(_OWNER) != owner:
                for table in ("entries", "streams", "jobs", "meta"):
                    database.execute(f"DELETE FROM {table}")  # noqa: S608  the names are constants
                database.set_meta(_OWNER, owner)
            for stream in STREAMS:
                epoch = secrets.randbits(_EPOCH_BITS) + 1
                database.execute("INSERT OR IGNORE INTO streams VALUES (?, ?, 0, 0)", (stream, epoch))
        self._epochs = {stream: self._column(stream, "epoch") for stream in STREAMS}

    def append_sample(self, lane: Stream, ts: int, metric_type: str, data: MetricData) -> int:
        """Return the sample's sequence. Raises DatabaseError when the disk does not take it; that loss is counted."""
        try:
            with self._database.transaction():
                self._account_for_unwritten(ts)
                sequence = self._append(lane, ts, metric_type, data)
        except DatabaseError:
            self._unwritten[lane] += 1
            raise
        self._unwritten = dict.fromkeys(LANES, 0)
        if self._database.used_bytes() > self.bound.max_bytes:
            self._trim_bytes()
        self.appended[lane].set()
        return sequence

    def append_event(self, kind: str, data: MetricData) -> int:
        """Raises DatabaseError when the disk does not take it."""
        with self._database.transaction():
            sequence = self._append("events", self._clock.now_ms(), kind, data)
            self._bound_events()
        self.appended["events"].set()
        return sequence

    def samples(
        self, lane: Stream, after: int = 0, limit: int = SAMPLES_PER_FRAME_MAX, max_bytes: int = 2**20
    ) -> list[Sample]:
        """Return the oldest samples whose sequence is above `after`, at least one where there is one."""
        chosen: list[Sample] = []
        size = 0
        for seq, ts, metric_type, body in self._entries(lane, after, limit):
            size += len(body) + 96
            if chosen and size > max_bytes:
                break
            data = _data_decoder.decode(body)
            chosen.append(Sample(seq=seq, ts=ts, metric_type=metric_type, metric_data=data))
        return chosen

    def events(self, after: int = 0, limit: int = 64) -> list[Event]:
        epoch = self._epochs["events"]
        return [
            Event(epoch=epoch, seq=seq, ts=ts, kind=kind, data=_data_decoder.decode(body))
            for seq, ts, kind, body in self._entries("events", after, limit)
        ]

    def acknowledge(self, stream: Stream, epoch: int, ranges: Iterable[Sequence[int]]) -> int:
        """Forget what the hub holds. Returns how many entries left; none when `epoch` is not this stream's."""
        if epoch != self._epochs[stream]:
            return 0
        statement = "DELETE FROM entries WHERE stream = ? AND seq BETWEEN ? AND ?"
        with self._database.transaction():
            gone = sum(self._database.execute(statement, (stream, first, last)) for first, last in ranges)
        self._database.give_back()
        return gone

    def epoch(self, stream: Stream) -> int:
        return self._epochs[stream]

    def states(self) -> StreamStates:
        live, backfill, events = (self._state(stream) for stream in STREAMS)
        return StreamStates(live=live, backfill=backfill, events=events)

    def dropped(self) -> dict[str, int]:
        """Return per stream how many entries of this epoch were lost before the hub held them; empty when none."""
        counts = {stream: self._column(stream, "dropped") + self._unwritten.get(stream, 0) for stream in STREAMS}
        return {stream: count for stream, count in counts.items() if count}

    def waiting(self) -> dict[str, int]:
        query = "SELECT COUNT(*) FROM entries WHERE stream = ?"
        return {stream: self._database.number(query, (stream,)) for stream in STREAMS}

    def used_bytes(self) -> int:
        return self._database.used_bytes()

    def trim_age(self) -> None:
        """Drop samples older than the bound allows. To be called now and then: a call makes at most one gap a lane."""
        horizon = self._clock.now_ms() - int(self.bound.max_age_seconds * 1000)
        for lane in LANES:
            with self._database.transaction():
                query = "SELECT MAX(seq) FROM entries WHERE stream = ? AND ts < ?"
                last = self._database.number(query, (lane, horizon))
                if last:
                    self._record_gap(lane, "age", self._drop(lane, last))

    def _trim_bytes(self) -> None:
        """Free a sixty-fourth of the bound at once, oldest samples first: one gap a lane, not one a sample."""
        target = self.bound.max_bytes * (1 - _TRIMMED_AT_ONCE)
        gaps: dict[Stream, _Gap] = {}
        with self._database.transaction():
            while self._database.used_bytes() > target and (oldest := self._oldest()):
                lane, sequence = oldest
                gap = self._drop(lane, sequence + _DROPPED_AT_ONCE - 1)
                gaps[lane] = gaps[lane].joined(gap) if lane in gaps else gap
            for lane, gap in gaps.items():
                self._record_gap(lane, "bytes", gap)

    def _oldest(self) -> tuple[Stream, int] | None:
        heads = [
            (_int(row[0]), lane, _int(row[1]))
            for lane in LANES
            for row in self._database.rows("SELECT ts, seq FROM entries WHERE stream = ? ORDER BY seq LIMIT 1", (lane,))
        ]
        if not heads:
            return None
        _, lane, sequence = min(heads)
        return lane, sequence

    def _drop(self, lane: Stream, last: int) -> _Gap:
        where = "FROM entries WHERE stream = ? AND seq <= ?"
        span = self._database.rows(f"SELECT MIN(seq), MAX(seq), MIN(ts), MAX(ts) {where}", (lane, last))[0]
        return _Gap(self._database.execute(f"DELETE {where}", (lane, last)), *map(_int, span))

    def _account_for_unwritten(self, ts: int) -> None:
        for lane, count in self._unwritten.items():
            if count:
                newest = self._column(lane, "newest")
                self._record_gap(lane, "disk", _Gap(count, newest, newest, ts, ts))

    def _record_gap(self, lane: Stream, cause: str, gap: _Gap) -> None:
        self._database.execute("UPDATE streams SET dropped = dropped + ? WHERE name = ?", (gap.dropped, lane))
        self._append("events", self._clock.now_ms(), GAP, {"stream": lane, "cause": cause, **gap._asdict()})
        self._bound_events()
        self.appended["events"].set()

    def _bound_events(self) -> None:
        newest = self._column("events", "newest")
        query = "DELETE FROM entries WHERE stream = 'events' AND seq <= ?"
        gone = self._database.execute(query, (newest - EVENTS_MAX,))
        if gone:
            self._database.execute("UPDATE streams SET dropped = dropped + ? WHERE name = 'events'", (gone,))

    def _append(self, stream: Stream, ts: int, kind: str, data: MetricData) -> int:
        self._database.execute("UPDATE streams SET newest = newest + 1 WHERE name = ?", (stream,))
        sequence = self._column(stream, "newest")
        values = (stream, sequence, ts, kind, msgspec.json.encode(data))
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", values)
        return sequence

    def _entries(self, stream: Stream, after: int, limit: int) -> list[tuple[int, int, str, bytes]]:
        query = "SELECT seq, ts, kind, body FROM entries WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [_entry(row) for row in self._database.rows(query, (stream, after, limit))]

    def _state(self, stream: Stream) -> StreamState:
        newest = self._column(stream, "newest")
        oldest = self._database.number("SELECT MIN(seq) FROM entries WHERE stream = ?", (stream,))
        return StreamState(epoch=self._epochs[stream], oldest=oldest or newest + 1, newest=newest)

    def _column(self, stream: Stream, name: Literal["epoch", "newest", "dropped"]) -> int:
        return self._database.number(f"SELECT {name} FROM streams WHERE name = ?", (stream,))  # noqa: S608


def _entry(row: Row) -> tuple[int, int, str, bytes]:
    seq, ts, kind, body = row
    assert isinstance(body, bytes)
    return _int(seq), _int(ts), str(kind), body


def _int(value: str | float | bytes | None) -> int:
    return int(value or 0)
