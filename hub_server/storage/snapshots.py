"""Questions to SQLite that are answered as a whole in one thread.

A statement that is awaited by itself takes the thread of its connection and the event loop in turns: a page of a list,
which begins a transaction, counts, reads and ends it, waits for each of them ten times while the loop has work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine

from hub_server.errors import Unavailable

READERS: Final = 2
WAITING_MAX: Final = 1000
"""Questions that wait for a thread: what both of them answer in some seconds."""
ANSWER_SECONDS: Final = 10.0
"""How long a question may take with its wait; as long as readers on the event loop wait for a connection."""

T = TypeVar("T")


class Snapshots:
    """`engine`: has a connection for each of READERS threads, whichever of them uses it, and no other user.

    Questions wait in the event loop: the threads never have more of them than they are answering.
    """

    def __init__(
        self, engine: Engine, *, waiting_max: int = WAITING_MAX, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._engine = engine
        self._waiting_max = waiting_max
        self._answer_seconds = answer_seconds
        self._threads = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="database-reader")
        self._free = asyncio.Semaphore(READERS)
        self._waiting = 0

    async def consult(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, given one snapshot. Once begun it is worked out to its end, though nobody waits.

        Raises Unavailable when too many wait already, and when it takes too long.
        """
        if self._waiting >= self._waiting_max:
            raise _too_much()
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._turn()
                return await asyncio.wrap_future(self._begun(work))
        except TimeoutError as late:
            raise _too_much() from late

    def close(self) -> None:
        """Wait for what is being read. Called in a thread; who calls `consult` afterwards gets RuntimeError."""
        self._threads.shutdown()
        self._engine.dispose()

    async def _turn(self) -> None:
        """Wait until a thread is free, which is the caller's then."""
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def _begun(self, work: Callable[[Connection], T]) -> Future[T]:
        """The thread is free again when it is done with `work`, however long somebody waits for that."""
        try:
            begun = self._threads.submit(self._run, work)
        except RuntimeError:
            self._free.release()
            raise
        begun.add_done_callback(partial(self._give_back, asyncio.get_running_loop()))
        return begun

    def _give_back(self, loop: asyncio.AbstractEventLoop, _done: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._free.release)

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)


def _too_much() -> Unavailable:
    return Unavailable("more is asked of the database than it can answer; try again in a moment", retry_after_seconds=1)
