"""An event loop whose clock jumps to the next thing that is due: hours pass in milliseconds, the same way each time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Every task waits and nothing is due: in real life this would hang for ever."""


class _Nothing:
    """Stands where a loop asks the system for events: there are none, so that time passes instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout_seconds: float | None) -> list[Any]:
        if timeout_seconds is None:
            raise Deadlock("nothing is due any more")
        self._loop.now_seconds += timeout_seconds
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """No sockets, no threads, no signals: timers and tasks only."""

    def __init__(self) -> None:
        super().__init__()
        self.now_seconds = 0.0
        self._selector = _Nothing(self)
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.now_seconds

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end. Raises Deadlock when it cannot come to one."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)  # what a killed process left undone concerns nobody
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
