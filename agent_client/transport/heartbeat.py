"""The heartbeat of a session (seed 000, "Heartbeat Flow")."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn

from agent_client.collectors.machine import describe_machine
from agent_client.transport.parts import Parts
from protocol.frames import AgentFrame, Heartbeat, HeartbeatAck, SystemInformation

SYSTEM_INFORMATION_EVERY: Final = 10

Send = Callable[[AgentFrame], Awaitable[None]]


class Heart:
    """Beats at the interval the hub has set last, and at once when the wall clock has jumped: the hub then corrects the
    times of what follows by how far the clock is off now. Says what the machine is when that changed, and now and then.
    """

    def __init__(self, parts: Parts, send: Send, describe: Callable[[], SystemInformation] = describe_machine) -> None:
        self._parts = parts
        self._send = send
        self._describe = describe
        self._beats = 0
        self._described: SystemInformation | None = None
        self._sent_clock_ms = 0
        self._sent_monotonic = 0.0

    async def run(self) -> NoReturn:
        """Ends by cancellation, or with what `send` or the spool raises."""
        spool, board = self._parts.spool, self._parts.board
        while True:
            spool.keep_time()
            if spool.stepped.is_set():
                spool.stepped.clear()
                board.clock_stepped()
            frame = self._next()
            self._sent_clock_ms = frame.clock_ms
            self._sent_monotonic = self._parts.clock.monotonic()
            board.heartbeat_sent()
            await self._send(frame)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._parts.cadence.heartbeat_seconds):
                    await spool.stepped.wait()

    def answered(self, ack: HeartbeatAck) -> None:
        self._parts.cadence.heartbeat_seconds = float(max(ack.next_heartbeat_sec, 1))
        if ack.echo_clock_ms != self._sent_clock_ms:
            return
        round_trip_ms = (self._parts.clock.monotonic() - self._sent_monotonic) * 1000
        ahead_ms = self._sent_clock_ms + round_trip_ms / 2 - ack.server_time_ms
        self._parts.board.heartbeat_answered(self._parts.clock.now_ms(), round(round_trip_ms, 1), round(ahead_ms))

    def _next(self) -> Heartbeat:
        parts = self._parts
        return Heartbeat(
            clock_ms=parts.clock.now_ms(),
            monotonic_ms=int(parts.clock.monotonic() * 1000),
            dropped=parts.spool.dropped(),
            spool_bytes=parts.spool.used_bytes(),
            sysinfo=self._due_description(),
        )

    def _due_description(self) -> SystemInformation | None:
        now = self._describe()
        is_due = now != self._described or self._beats % SYSTEM_INFORMATION_EVERY == 0
        self._described = now
        self._beats += 1
        return now if is_due else None
