"""What one session has to do with jobs: it sends the executor's reports, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from agent_client.execution.link import ExecutorLink
from agent_client.execution.wire import JobReport
from protocol.frames import JobProgress

Send = Callable[[JobReport], Awaitable[None]]


class JobLane:
    """Lives as long as one session. `said`: what its `hello` told of jobs; `held_open`: those the hub holds open."""

    def __init__(
        self,
        link: ExecutorLink,
        send: Send,
        *,
        said: list[JobProgress],
        held_open: list[str],
        window: int,
        ack_timeout_seconds: float,
    ) -> None:
        self._link = link
        self._send = send
        self._said = said
        self._held_open = held_open
        self._window = window
        self._ack_timeout_seconds = ack_timeout_seconds

    async def run(self) -> NoReturn:
        """Ends by cancellation, or with what `send` raises."""
        reports = self._link.begin(self._said, self._held_open, self._window, self._ack_timeout_seconds)
        try:
            for answer in self._link.answers():
                await self._send(answer)
            while True:
                await self._send(await reports.get())
        finally:
            self._link.end(reports)
