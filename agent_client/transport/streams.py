"""One stream of the spool on its way to the hub: under credits, sent again until acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from agent_client.clock import Clock
from agent_client.spool.spool import Spool, Stream
from protocol.enumerations import Lane
from protocol.frames import AgentFrame, Metrics
from protocol.limits import SAMPLES_PER_FRAME_MAX
from protocol.ranges import SequenceRanges

FRAME_SAMPLES_MAX_BYTES: Final = 128 * 1024

Send = Callable[[AgentFrame], Awaitable[None]]


class _Flight(Struct):
    """A frame that is not acknowledged: the sequences in it that the hub does not hold yet."""

    missing: set[int]
    sent_monotonic: float


class StreamSender:
    """Lives as long as one session: a new one sends everything again that is still in the spool, oldest first."""

    def __init__(
        self, stream: Stream, spool: Spool, send: Send, clock: Clock, *, window: int, ack_timeout_seconds: float
    ) -> None:
        self.stream: Stream = stream
        self._spool = spool
        self._send = send
        self._clock = clock
        self._window = window
        self._ack_timeout_seconds = ack_timeout_seconds
        self._sent_up_to = 0
        self._flights: list[_Flight] = []

    async def run(self) -> None:
        """Ends by cancellation, or with what `send` or the spool raises."""
        bell = self._spool.appended[self.stream]
        while True:
            bell.clear()
            self._rewind_if_overdue()
            while len(self._flights) < self._window and await self._send_next():
                pass
            try:
                async with asyncio.timeout(self._patience()):
                    await bell.wait()
            except TimeoutError:
                self._window = max(self._window, 1)

    def acknowledged(self, epoch: int, ranges: Iterable[Sequence[int]], credits: int | None = None) -> None:
        """Take note of what the hub holds, and of how many frames may be in flight from now on (None: as before).

        Raises DatabaseError when that cannot be written; it is then sent again.
        """
        if credits is not None:
            self._window = credits
        if epoch == self._spool.epoch(self.stream):
            held = SequenceRanges(ranges)
            self._spool.acknowledge(self.stream, epoch, held)
            for flight in self._flights:
                flight.missing = {sequence for sequence in flight.missing if sequence not in held}
            self._flights = [flight for flight in self._flights if flight.missing]
        self._spool.appended[self.stream].set()

    async def _send_next(self) -> bool:
        frames, sequences = self._next_frames()
        if not sequences:
            return False
        self._sent_up_to = sequences[-1]
        self._flights.append(_Flight(set(sequences), self._clock.monotonic()))
        for frame in frames:
            await self._send(frame)
        return True

    def _next_frames(self) -> tuple[list[AgentFrame], list[int]]:
        if self.stream == "events":
            events = self._spool.events(self._sent_up_to, limit=1)
            return [*events], [event.seq for event in events]
        samples = self._spool.samples(self.stream, self._sent_up_to, SAMPLES_PER_FRAME_MAX, FRAME_SAMPLES_MAX_BYTES)
        if not samples:
            return [], []
        frame = Metrics(epoch=self._spool.epoch(self.stream), lane=Lane(self.stream), samples=samples)
        return [frame], [sample.seq for sample in samples]

    def _patience(self) -> float:
        """Return the seconds until the oldest frame in flight is overdue, or a window of 0 is tried with one frame."""
        if not self._flights:
            return self._ack_timeout_seconds
        return max(self._flights[0].sent_monotonic + self._ack_timeout_seconds - self._clock.monotonic(), 0.01)

    def _rewind_if_overdue(self) -> None:
        """Send again all that is not acknowledged when the hub was silent about the oldest of it for too long."""
        if self._flights and self._clock.monotonic() - self._flights[0].sent_monotonic >= self._ack_timeout_seconds:
            self._sent_up_to = 0
            self._flights.clear()
