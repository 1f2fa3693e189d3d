"""What is told to end does, though something of its own fails in that very moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent_client.transport.endings import Replaced
from agent_client.transport.socket import SessionEnded
from agent_client.transport.succession import Succession


class StandIn:
    """A session that flows until it is told to end."""

    def __init__(self) -> None:
        self.pair = SimpleNamespace(facts=None)
        self.flows, self.ends = asyncio.Event(), asyncio.Event()
        self.is_closed = False

    async def run(self) -> None:
        self.flows.set()
        await self.ends.wait()
        raise SessionEnded(Replaced())

    @asynccontextmanager
    async def greeted(self, _pair: Any) -> AsyncIterator[Any]:
        try:
            yield self
        finally:
            self.is_closed = True


class NeverDue:
    async def due(self, _facts: Any) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_is_to_end_in_the_moment_in_which_its_session_does_ends_for_good(turns: int) -> None:
    session = StandIn()
    papers = cast("Any", SimpleNamespace(renewal=NeverDue()))
    succession = Succession(papers, session.greeted, lambda _session: None)

    async def connection() -> None:
        with pytest.raises(SessionEnded):
            await succession.run(cast("Any", None))

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(connection(), name="connection")
        await session.flows.wait()
        session.ends.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        was_told_to_end = task.cancel()
    assert task.cancelled() is was_told_to_end
    assert session.is_closed
