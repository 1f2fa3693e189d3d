"""The spool: numbered streams that survive crashes and lost connections, inside a bound of bytes and age."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from agent_client.clock import STEP_TOLERATED_MS, Clock, StepWatch
from agent_client.logs import Log
from agent_client.spool.database import Database, DatabaseError, DiskRefused
from agent_client.spool.epochs import Border, renewed
from agent_client.spool.gaps import Gap
from agent_client.spool.ledger import LANES, STREAMS, Ledger, Stream
from protocol.frames import Event, MetricData, MetricValue, Sample, StreamAck, StreamState, StreamStates
from protocol.limits import SAMPLES_PER_FRAME_MAX
from protocol.reports import CLOCK_STEPPED, GAP, SPOOL_FULL, SPOOL_RENEWED

_TRIMMED_AT_ONCE: Final = 1 / 64
_DROPPED_AT_ONCE: Final = 64
_EVENTS_KEPT: Final = 1000
_RESCUE_SECONDS: Final = 60.0
_GAPS_AT_ONCE: Final = 16
_BOOT: Final = "boot"
_BORDER: Final = "border"

_log = Log("spool")
_data_decoder: Final[msgspec.json.Decoder[dict[str, MetricValue]]] = msgspec.json.Decoder(dict[str, MetricValue])


class SpoolBound(Struct, frozen=True):
    max_bytes: int
    max_age_seconds: float


class _Boot(Struct, frozen=True):
    """One start of the machine: the first sequence of each stream in it, and what its wall clock was set to."""

    id: str
    first: dict[Stream, int]
    offset_ms: int


class _Lost(Struct):
    """Samples of one lane that the disk refused, since it took one last."""

    count: int
    from_ms: int
    to_ms: int


class Spool:
    """Three streams, each with a random epoch and a sequence that never repeats.

    What is appended is on disk when the call returns, and stays until it is acknowledged or falls out of the bound:
    then its stream's `dropped` grows, and a `gap` event names the sequences, exactly. Samples go first, the oldest
    before others; events only once there are none. `news` is set when there may be something to send, `stepped` when
    the wall clock has jumped; `taken` counts the samples of this object's life.
    """

    def __init__(self, database: Database, clock: Clock, bound: SpoolBound, owner: str = "", boot_id: str = "") -> None:
        """`owner` is the agent's id: a spool that another identity filled is emptied, and begins new epochs."""
        self.bound = bound
        self.news = asyncio.Event()
        self.stepped = asyncio.Event()
        self.taken = 0
        self._database = database
        self._clock = clock
        self._ledger = Ledger(database, owner)
        self._epochs = self._ledger.epochs()
        self._waiting = self._ledger.counts()
        self._opened_at: Border = {stream: self._ledger.newest(stream) for stream in STREAMS}
        self._lost: dict[Stream, _Lost] = {}
        self._is_full = False
        self._said_up_to = 0
        self._rescue_due = 0.0
        database.make_room = self._make_room
        self._boot = self._this_boot(boot_id)
        self._steps = StepWatch(clock, self._boot.offset_ms)

    def append_samples(self, lane: Stream, ts: int, readings: Sequence[tuple[str, MetricData]]) -> None:
        """Store the samples of one moment, (metric type, data) each, in one transaction: all of them or none.

        Raises DatabaseError when the disk does not take them; that loss is counted.
        """
        self._require_file()
        stepped_ms = self.keep_time()
        if stepped_ms and abs(self._clock.now_ms() - ts) > STEP_TOLERATED_MS:
            ts += stepped_ms
        rows = [(ts, metric_type, msgspec.json.encode(data)) for metric_type, data in readings]
        try:
            self._require_room()
            with self._database.transaction():
                self._account_for_lost()
                self._ledger.add(lane, rows)
        except DatabaseError:
            self._note_lost(lane, ts, len(rows))
            raise
        self._waiting[lane] += len(rows)
        self.taken += len(rows)
        self._note_taken()
        self._keep_bytes()
        self.news.set()

    def append_event(self, kind: str, data: MetricData) -> int:
        """Return the event's sequence. Raises DatabaseError when the disk does not take it."""
        self._require_file()
        row = (self._clock.now_ms(), kind, msgspec.json.encode(data))
        sequence = self._database.vital(lambda: self._ledger.add("events", [row]))
        self._waiting["events"] += 1
        self._keep_bytes()
        self.news.set()
        return sequence

    def report(self, kind: str, data: MetricData) -> None:
        """Store an event; one that the disk does not take is logged, and lost."""
        try:
            self.append_event(kind, data)
        except DatabaseError as error:
            _log.error("event lost, the spool does not take it", kind=kind, reason=str(error))

    def samples(
        self, lane: Stream, after: int = 0, limit: int = SAMPLES_PER_FRAME_MAX, max_bytes: int = 2**20
    ) -> list[Sample]:
        """Return the oldest samples whose sequence is above `after`, at least one where there is one."""
        chosen: list[Sample] = []
        size = 0
        for seq, ts, metric_type, body in self._ledger.entries(lane, after, limit):
            size += len(body) + 96
            if chosen and size > max_bytes:
                break
            data = _data_decoder.decode(body)
            chosen.append(Sample(seq=seq, ts=ts, metric_type=metric_type, metric_data=data))
        return chosen

    def events(self, after: int = 0, limit: int = 64) -> list[Event]:
        """Return the oldest events above `after`. Gaps that are not said yet become events here."""
        self._say_gaps()
        epoch = self._epochs["events"]
        return [
            Event(epoch=epoch, seq=seq, ts=ts, kind=kind, data=_data_decoder.decode(body))
            for seq, ts, kind, body in self._ledger.entries("events", after, limit)
        ]

    def acknowledge(self, stream: Stream, epoch: int, ranges: Iterable[Sequence[int]]) -> int:
        """Forget what the hub holds. Returns how many entries left; none when `epoch` is not this stream's."""
        if epoch != self._epochs[stream]:
            return 0
        with self._database.transaction(durable=False):
            gone = self._ledger.delete(stream, ranges)
        self._waiting[stream] -= gone
        self._database.give_back()
        return gone

    def reconcile(self, acks: Mapping[str, StreamAck]) -> None:
        """Take note of what the hub holds of each stream, before anything is sent.

        Where it holds what this spool has never numbered, the spool has gone back: its streams then begin new epochs,
        so that the hub takes nothing new for what it has already. Raises DatabaseError where that cannot be written:
        nothing may be sent then.
        """
        border = self._border(acks)
        if border is None:
            self._acknowledge_all(acks)
            return

        def renew() -> None:
            renewed(self._ledger, border, acks, self._clock.now_ms())
            self._database.set_meta(_BORDER, "")

        self._database.vital(renew)
        self._epochs = self._ledger.epochs()
        self._waiting = self._ledger.counts()
        _log.warn("spool had gone back: its streams began new epochs")
        self.news.set()

    def went_back(self) -> None:
        """Note that an earlier state of the file was put back: new epochs begin once the hub said what it holds."""
        self._database.forgotten()
        if not self._database.meta(_BORDER):
            border = msgspec.json.encode(self._opened_at).decode()
            self._database.vital(lambda: self._database.set_meta(_BORDER, border))
        self.report(SPOOL_RENEWED, {"cause": "restored"})

    def settle(self) -> None:
        """Write down, before an orderly end, what the disk refused."""
        with suppress(DatabaseError):
            self._database.vital(self._account_for_lost)
            self._lost.clear()

    def keep_time(self) -> int:
        """Look whether the wall clock has jumped; then the times of what waits from this boot move with it.

        Returns by how many ms, 0 where it has not, or the disk does not take it now.
        """
        step_ms = self._steps.step_ms()
        if not step_ms:
            return 0
        boot = msgspec.structs.replace(self._boot, offset_ms=self._steps.offset_ms + step_ms)
        try:
            with self._database.transaction():
                self._ledger.shift(boot.first, step_ms)
                self._database.set_meta(_BOOT, msgspec.json.encode(boot).decode())
        except DatabaseError as error:
            _log.error("clock stepped, and the spool does not take it", reason=str(error))
            return 0
        self._boot = boot
        self._steps.accept(step_ms)
        self.stepped.set()
        _log.warn("wall clock stepped", by_ms=step_ms)
        self.report(CLOCK_STEPPED, {"by_ms": step_ms})
        return step_ms

    def epoch(self, stream: Stream) -> int:
        return self._epochs[stream]

    def states(self) -> StreamStates:
        live, backfill, events = (self._state(stream) for stream in STREAMS)
        return StreamStates(live=live, backfill=backfill, events=events)

    def newest(self) -> dict[Stream, int]:
        return {stream: self._ledger.newest(stream) for stream in STREAMS}

    def dropped(self) -> dict[str, int]:
        """Return per stream how many entries were lost before the hub held them; empty when none."""
        counts = {stream: self._ledger.dropped(stream) + self._lost_count(stream) for stream in STREAMS}
        return {stream: count for stream, count in counts.items() if count}

    def waiting(self) -> dict[str, int]:
        return dict(self._waiting.items())

    def used_bytes(self) -> int:
        return self._database.used_bytes()

    def trim_age(self) -> None:
        """Drop samples older than the bound allows. Reads all of them: to be called now and then."""
        self.keep_time()
        horizon_ms = self._clock.now_ms() - int(self.bound.max_age_seconds * 1000)
        for lane in LANES:
            with self._database.transaction():
                gone = self._ledger.drop_older(lane, horizon_ms)
            self._waiting[lane] -= gone
            if gone:
                self.news.set()

    def _keep_bytes(self) -> None:
        """Free a sixty-fourth of the bound at once when it is passed; a disk that refuses is asked again later."""
        if self._database.used_bytes() <= self.bound.max_bytes:
            return
        target = self.bound.max_bytes * (1 - _TRIMMED_AT_ONCE)
        with suppress(DatabaseError):
            self._drop_while(lambda: self._database.used_bytes() > target, "bytes", spares_events=False)

    def _make_room(self) -> None:
        """Free pages inside the file at the expense of the oldest samples."""
        self._drop_while(self._database.is_cramped, "disk", spares_events=True)

    def _drop_while(self, wanted: Callable[[], bool], cause: str, *, spares_events: bool) -> None:
        """Drop in one transaction, the oldest samples first, and events only where there are none.

        Raises DatabaseError.
        """
        before = dict(self._waiting)
        try:
            with self._database.transaction():
                while wanted() and (stream := self._next_to_go(spares_events=spares_events)):
                    self._waiting[stream] -= self._ledger.drop_oldest(stream, _DROPPED_AT_ONCE, cause)
        except DatabaseError:
            self._waiting = before
            raise
        self.news.set()

    def _next_to_go(self, *, spares_events: bool) -> Stream | None:
        heads = [(head[0].ts, lane) for lane in LANES if (head := self._ledger.entries(lane, 0, 1))]
        if heads:
            return min(heads)[1]
        return None if spares_events or self._waiting["events"] <= _EVENTS_KEPT else "events"

    def _say_gaps(self) -> None:
        """Make events of gaps, a few at a time: those that wait for their turn grow together meanwhile."""
        if self._said_up_to and self._ledger.holds("events", self._said_up_to):
            return
        if not self._ledger.owed():
            return

        def say() -> int:
            owed = self._ledger.owed()[:_GAPS_AT_ONCE]  # making room may have changed it since
            self._ledger.pay(len(owed))
            self._said_up_to = self._ledger.add(
                "events", [(self._clock.now_ms(), GAP, msgspec.json.encode(gap)) for gap in owed]
            )
            return len(owed)

        with suppress(DatabaseError):
            said = self._database.vital(say)
            self._waiting["events"] += said
            self._keep_bytes()

    def _note_lost(self, lane: Stream, ts: int, count: int) -> None:
        lost = self._lost.setdefault(lane, _Lost(0, ts, ts))
        lost.count += count
        lost.to_ms = ts
        if not self._is_full:
            self._is_full = True
            self.report(SPOOL_FULL, {"since_ms": ts, "dropped": count})

    def _note_taken(self) -> None:
        self._lost.clear()
        if self._is_full and not self._database.is_tight():
            self._is_full = False
            self._database.refill_reserve()

    def _account_for_lost(self) -> None:
        """Give what the disk refused its sequences, and say that they are missing. Inside a transaction."""
        for lane, lost in self._lost.items():
            last = self._ledger.skip(lane, lost.count)
            gap = Gap.of(lane, self._epochs[lane], "disk", (last - lost.count + 1, last), lost.from_ms)
            self._ledger.miss([msgspec.structs.replace(gap, to_ms=lost.to_ms)])

    def _require_room(self) -> None:
        if not self._database.has_room():
            raise DiskRefused(f"{self._database.path}: the disk is full")

    def _lost_count(self, stream: Stream) -> int:
        return self._lost[stream].count if stream in self._lost else 0

    def _require_file(self) -> None:
        """Put the file back where somebody deleted or exchanged it under the running agent: all of it is still here."""
        if not self._database.is_deleted() or self._clock.monotonic() < self._rescue_due:
            return
        self._rescue_due = self._clock.monotonic() + _RESCUE_SECONDS
        try:
            self._database.rescue()
        except DatabaseError as error:
            _log.error("spool deleted under the running agent, and not put back", reason=str(error))
            return
        _log.warn("spool deleted under the running agent, and put back")
        self.report(SPOOL_RENEWED, {"cause": "rescued"})

    def _acknowledge_all(self, acks: Mapping[str, StreamAck]) -> None:
        for stream in STREAMS:
            if ack := acks.get(stream):
                try:
                    self.acknowledge(stream, ack.epoch, ack.ranges)
                except DatabaseError as error:  # it is sent, and acknowledged, once more
                    _log.error("acknowledgement not written down", stream=stream, reason=str(error))

    def _border(self, acks: Mapping[str, StreamAck]) -> Border | None:
        """Return up to where sequences mean what they always meant; None where all of them do."""
        if kept := self._database.meta(_BORDER):
            return msgspec.json.decode(kept, type=dict[Stream, int])
        for stream in STREAMS:
            ack = acks.get(stream)
            if ack is None or ack.epoch != self._epochs[stream]:
                continue
            if max((last for _, last in ack.ranges), default=0) > self._ledger.newest(stream):
                self._database.forgotten()
                self.report(SPOOL_RENEWED, {"cause": "restored"})
                return self._opened_at
        return None

    def _this_boot(self, boot_id: str) -> _Boot:
        kept = self._database.meta(_BOOT)
        boot = msgspec.json.decode(kept, type=_Boot) if kept else None
        if boot is not None and boot.id == boot_id:
            return boot
        first = {stream: newest + 1 for stream, newest in self._opened_at.items()}
        boot = _Boot(boot_id, first, StepWatch(self._clock).offset_ms)
        with suppress(DatabaseError):
            self._database.vital(lambda: self._database.set_meta(_BOOT, msgspec.json.encode(boot).decode()))
        return boot

    def _state(self, stream: Stream) -> StreamState:
        newest = self._ledger.newest(stream)
        return StreamState(epoch=self._epochs[stream], oldest=self._ledger.oldest(stream) or newest + 1, newest=newest)
