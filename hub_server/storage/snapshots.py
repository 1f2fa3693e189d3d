"""Questions to SQLite that are answered as a whole in one thread.

A statement that is awaited by itself takes the thread of its connection and the event loop in turns: a page of a list,
which begins a transaction, counts, reads and ends it, waits for each of them ten times while the loop has work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine

READERS: Final = 2

T = TypeVar("T")


class Snapshots:
    """`engine`: has a connection for each of READERS threads, whichever of them uses it, and no other user."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="database-reader")

    async def consult(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, given one snapshot. It is worked out to its end when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def close(self) -> None:
        """Wait for what is being read. Called in a thread; who calls `consult` afterwards gets RuntimeError."""
        self._threads.shutdown()
        self._engine.dispose()

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)
