"""Ends with -9, many times over, and what is left of the samples after them."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from typing import Final

from tests.integration.person import Json, Person
from tests.system.demo import Demo
from tests.system.programs import kill
from tests.system.samples import compared

ROUNDS: Final = 10
OWN_PACE_DEADLINE_SECONDS: Final = 60.0
DRAIN_DEADLINE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.2


async def hub_killed_once_at_the_agents_own_pace(demo: Demo, token: str) -> str:
    """With the intervals a fleet has: the first retry is somewhere within half a minute."""
    async with demo.watching(token) as person:
        await person.take("agent:metrics", is_of(demo))
    await demo.kill_hub()
    started = time.monotonic()
    await returned(demo, token, OWN_PACE_DEADLINE_SECONDS)
    return f"the agent was back {time.monotonic() - started:.1f} s after the hub; {await exact(demo)}"


async def hub_killed_often(demo: Demo, token: str) -> str:
    """At any moment between two samples, also while one is being stored."""
    seconds = []
    for _ in range(ROUNDS):
        async with demo.watching(token) as person:
            await person.take("agent:metrics", is_of(demo))
            await asyncio.sleep(random.uniform(0, 1.0))  # noqa: S311  a moment of chance is the point
        started = time.monotonic()
        await demo.kill_hub()
        await returned(demo, token)
        seconds.append(time.monotonic() - started)
    return f"{ROUNDS} kills, back after {statistics.median(seconds):.1f} s each; {await exact(demo)}"


async def agent_killed_often(demo: Demo, token: str) -> str:
    offline, back, reasons = [], [], set()
    async with demo.watching(token) as person:
        for _ in range(ROUNDS):
            await person.take("agent:metrics", is_of(demo))
            await asyncio.sleep(random.uniform(0, 1.0))  # noqa: S311  a moment of chance is the point
            started = time.monotonic()
            kill(demo.agent.pid)
            reasons.add((await person.take("agent:disconnected", is_of(demo)))["reason"])
            offline.append(time.monotonic() - started)
            await person.take("agent:connected", is_of(demo))
            back.append(time.monotonic() - started)
            person.inbox.clear()
    assert reasons == {"connection_lost"}, reasons
    return (
        f"{ROUNDS} kills, offline ({', '.join(reasons)}) after {statistics.median(offline) * 1000:.0f} ms, "
        f"back after {statistics.median(back):.1f} s; {await exact(demo)}"
    )


async def returned(demo: Demo, token: str, deadline_seconds: float = 15.0) -> None:
    """Return once the agent is live at the hub; it must never be called offline on the way."""
    async with demo.watching(token) as person:
        await person.take("agent:metrics", is_of(demo), deadline_seconds=deadline_seconds)
        never_offline(person, demo)


def never_offline(person: Person, demo: Demo) -> None:
    assert not person.held("agent:disconnected", is_of(demo)), "the agent was called offline for the hub's own absence"


async def exact(demo: Demo) -> str:
    """Return the comparison of spool and tables once the spool has drained. Raises AssertionError when they differ."""
    async with asyncio.timeout(DRAIN_DEADLINE_SECONDS):
        found = await compared(demo.agent.spool, demo.folder, demo.agent.agent_id)
        while found.waiting > 1:
            await asyncio.sleep(POLL_SECONDS)
            found = await compared(demo.agent.spool, demo.folder, demo.agent.agent_id)
    assert found.is_exact, str(found)
    return str(found)


def is_of(demo: Demo) -> Callable[[Json], bool]:
    agent_id = demo.agent.agent_id

    def matches(data: Json) -> bool:
        return bool(data["agentId"] == agent_id)

    return matches
