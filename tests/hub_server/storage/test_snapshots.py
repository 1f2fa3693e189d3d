"""Questions that threads answer wait in a line that has an end, and not for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from hub_server.errors import Unavailable
from hub_server.storage.snapshots import READERS, Snapshots


class Halt:
    """Work that holds its thread until `let_go`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = asyncio.Semaphore(0)
        self._may_end = threading.Event()

    def hold(self, _: Connection) -> None:
        self._loop.call_soon_threadsafe(self._begun.release)
        assert self._may_end.wait(30)

    async def holds(self, threads: int) -> None:
        async with asyncio.timeout(30):
            for _ in range(threads):
                await self._begun.acquire()

    def let_go(self) -> None:
        self._may_end.set()


@pytest.fixture
async def halt() -> AsyncIterator[Halt]:
    halt = Halt()
    yield halt
    halt.let_go()


@asynccontextmanager
async def snapshots_in(folder: Path, *, waiting_max: int, answer_seconds: float) -> AsyncIterator[Snapshots]:
    engine = create_engine(f"sqlite:///{folder / 'hub.db'}", pool_size=READERS, max_overflow=0)
    snapshots = Snapshots(engine, waiting_max=waiting_max, answer_seconds=answer_seconds)
    try:
        yield snapshots
    finally:
        await asyncio.to_thread(snapshots.close)


def answering(number: int, asked: list[int]) -> Callable[[Connection], int]:
    def answer(connection: Connection) -> int:
        asked.append(number)
        return connection.scalar(text("select :number"), {"number": number}) or 0

    return answer


async def test_who_comes_to_a_full_line_is_refused_at_once_and_the_others_are_answered(
    tmp_path: Path, halt: Halt
) -> None:
    asked: list[int] = []
    async with snapshots_in(tmp_path, waiting_max=3, answer_seconds=30) as snapshots, asyncio.TaskGroup() as tasks:
        holding = [tasks.create_task(snapshots.consult(halt.hold), name="hold") for _ in range(READERS)]
        await halt.holds(READERS)
        holding[0].cancel()
        waiting = [tasks.create_task(snapshots.consult(answering(n, asked)), name="wait") for n in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await snapshots.consult(answering(4, asked))
        waiting[1].cancel()
        await asyncio.sleep(0)
        waiting.append(tasks.create_task(snapshots.consult(answering(5, asked)), name="wait"))
        await asyncio.sleep(0)
        assert (refused.value.retry_after_seconds, asked) == (1, [])
        halt.let_go()
    assert [task.result() for task in waiting if not task.cancelled()] == [1, 3, 5]
    assert sorted(asked) == [1, 3, 5]


async def test_who_waits_for_too_long_is_refused_and_not_asked_for_any_more(tmp_path: Path, halt: Halt) -> None:
    asked: list[int] = []
    async with snapshots_in(tmp_path, waiting_max=3, answer_seconds=0.3) as snapshots:
        works = [*[halt.hold] * READERS, answering(1, asked)]
        ends = await asyncio.gather(*map(snapshots.consult, works), return_exceptions=True)
        halt.let_go()
    assert [type(end) for end in ends] == [Unavailable] * (READERS + 1)
    assert asked == []
