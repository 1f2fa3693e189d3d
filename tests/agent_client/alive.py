"""The whole agent at work in the tests' own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agent_client.agent import Agent
from agent_client.config import load_config
from agent_client.paths import Places
from tests.agent_client.clock import SteppingClock
from tests.agent_client.executors import end_executor

WAIT_SECONDS = 60.0


@asynccontextmanager
async def alive(
    places: Places, clock: SteppingClock | None = None, *, keeps_executor: bool = False
) -> AsyncIterator[Agent]:
    """Run the whole agent of `places`, and stop it orderly; then its executor too."""
    agent = Agent(places, load_config(places), clock or SteppingClock())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(agent.run(), name="agent")
            try:
                yield agent
            finally:
                agent.stop()
    finally:
        if not keeps_executor:
            end_executor(places)


async def until(fact: Callable[[], Any]) -> None:
    """Wait for what only shows in the agent's own state."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not fact():  # noqa: ASYNC110  the agent has no event for it
            await asyncio.sleep(0.005)
