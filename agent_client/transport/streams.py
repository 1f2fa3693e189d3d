"""The streams of the spool on their way to the hub: under credits, live before history, again until acknowledged."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from msgspec import Struct

from agent_client.clock import Clock
from agent_client.spool.ledger import Stream
from agent_client.spool.spool import Spool
from protocol.enumerations import Lane
from protocol.frames import AgentFrame, Metrics
from protocol.limits import FRAMES_PER_SECOND, SAMPLES_PER_FRAME_MAX
from protocol.ranges import SequenceRanges

ORDER: Final[tuple[Stream, ...]] = ("live", "events", "backfill")
LIVE_FRAME_MAX_BYTES: Final = 128 * 1024
BACKFILL_FRAME_MAX_BYTES: Final = 64 * 1024  # what a live sample may have to wait for on a slow line
BACKFILL_EVERY_SECONDS: Final = 2 / FRAMES_PER_SECOND  # the hub slows down a socket on which more frames come
PROBE_AFTER_TIMEOUTS: Final = 2

Send = Callable[[AgentFrame], Awaitable[None]]


class _Flight(Struct):
    """A frame that is not acknowledged: the sequences in it that the hub does not hold yet."""

    missing: set[int]
    sent_monotonic: float


class StreamSender:
    """Lives as long as one session: a new one sends everything again that is still in the spool, oldest first.

    Never more frames are in flight than the hub has given credits for. 0 means to wait for its next word; when that
    does not come for long, one frame is tried. What it is silent about is sent again, with half as many in flight.
    """

    def __init__(
        self, stream: Stream, spool: Spool, send: Send, clock: Clock, *, window: int, ack_timeout_seconds: float
    ) -> None:
        self.stream: Stream = stream
        self._spool = spool
        self._send = send
        self._clock = clock
        self._window = self._granted = window
        self._ack_timeout_seconds = ack_timeout_seconds
        self._heard_monotonic = clock.monotonic()
        self._sent_monotonic = -math.inf
        self._sent_up_to = 0
        self._flights: list[_Flight] = []

    async def send_next(self) -> bool:
        """Send a frame, if there is one and the hub has credit for it. Raises what `send` or the spool raises."""
        self._mind_silence()
        if len(self._flights) >= self._window or self._pause_seconds() > 0:
            return False
        frame, sequences = self._next_frame()
        if frame is None:
            return False
        self._sent_up_to = sequences[-1]
        self._sent_monotonic = self._clock.monotonic()
        self._flights.append(_Flight(set(sequences), self._sent_monotonic))
        await self._send(frame)
        return True

    def patience_seconds(self) -> float:
        """Return after what time `send_next` may find something to do though nothing was appended or acknowledged."""
        return max(min(self._silence_ends() - self._clock.monotonic(), self._pause_seconds() or math.inf), 0.01)

    def acknowledged(self, epoch: int, ranges: Iterable[Sequence[int]], credits: int | None = None) -> None:
        """Take note of what the hub holds, and of how many frames may be in flight from now on (None: as at first).

        Raises DatabaseError when that cannot be written; it is then sent again.
        """
        self._heard_monotonic = self._clock.monotonic()
        self._window = self._granted if credits is None else credits
        if epoch == self._spool.epoch(self.stream):
            held = SequenceRanges(ranges)
            self._spool.acknowledge(self.stream, epoch, held)
            for flight in self._flights:
                flight.missing = {sequence for sequence in flight.missing if sequence not in held}
            self._flights = [flight for flight in self._flights if flight.missing]
        self._spool.news.set()

    def _next_frame(self) -> tuple[AgentFrame | None, list[int]]:
        if self.stream == "events":
            events = self._spool.events(self._sent_up_to, limit=1)
            return (events[0], [events[0].seq]) if events else (None, [])
        max_bytes = LIVE_FRAME_MAX_BYTES if self.stream == "live" else BACKFILL_FRAME_MAX_BYTES
        samples = self._spool.samples(self.stream, self._sent_up_to, SAMPLES_PER_FRAME_MAX, max_bytes)
        if not samples:
            return None, []
        frame = Metrics(epoch=self._spool.epoch(self.stream), lane=Lane(self.stream), samples=samples)
        return frame, [sample.seq for sample in samples]

    def _pause_seconds(self) -> float:
        if self.stream != "backfill":
            return 0.0
        return max(self._sent_monotonic + BACKFILL_EVERY_SECONDS - self._clock.monotonic(), 0.0)

    def _silence_ends(self) -> float:
        if self._flights:
            return self._flights[0].sent_monotonic + self._ack_timeout_seconds
        if self._window == 0:
            return self._heard_monotonic + PROBE_AFTER_TIMEOUTS * self._ack_timeout_seconds
        return math.inf

    def _mind_silence(self) -> None:
        if self._clock.monotonic() < self._silence_ends():
            return
        self._window = max(self._window // 2, 1)
        self._sent_up_to = 0
        self._flights.clear()


class Outflow:
    """Sends the streams of one session, each time a frame of the first in `ORDER` that has one it may send."""

    def __init__(self, senders: Sequence[StreamSender], news: asyncio.Event, ack_timeout_seconds: float) -> None:
        self._senders = sorted(senders, key=lambda sender: ORDER.index(sender.stream))
        self._news = news
        self._ack_timeout_seconds = ack_timeout_seconds

    async def run(self) -> NoReturn:
        """Ends by cancellation, or with what `send` or the spool raises."""
        while True:
            self._news.clear()
            while await self._send_one():
                pass
            patience = min(sender.patience_seconds() for sender in self._senders)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(patience, self._ack_timeout_seconds)):
                    await self._news.wait()

    async def _send_one(self) -> bool:
        for sender in self._senders:
            if await sender.send_next():
                return True
        return False
