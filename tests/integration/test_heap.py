"""A session that ended is freed at once: frozen objects that form a cycle would stay for good."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import pytest
from aiohttp import web

from hub_server.gateway.agents.agent_socket import AgentSocket
from hub_server.gateway.agents.session import AgentSession
from hub_server.gateway.visitors import Visitor
from protocol.frames import MetricsAck, Refuse
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, connected, hello, metrics, sample
from tests.integration.person import Person, known_to

SESSIONS = 4
KINDS = (Visitor, AgentSocket, web.Request, AgentSession)


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> dict[str, int]:
    """Return how many of each kind there are. No closure over the list: it would be in it, and keep all of them."""
    found = Counter(type(each) for each in gc.get_objects())
    return {kind.__name__: found[kind] for kind in KINDS}


async def until_freed(before: dict[str, int]) -> None:
    """Return once no more than the last connection is left: the loop holds it until it has other work.

    Raises TimeoutError.
    """
    async with asyncio.timeout(10):
        while any(count > before[kind] + 1 for kind, count in alive().items()):  # noqa: ASYNC110  in another thread
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("ends", ["closed", "aborted", "refused"])
async def test_nothing_of_ended_sessions_is_left_for_the_collector(
    hub: RunningHub, person: Person, identity: Identity, ends: str
) -> None:
    await known_to(person, identity.agent_id)
    before = alive()
    for _ in range(SESSIONS):
        async with connected(hub, identity.tls()) as agent:
            if ends == "refused":
                await agent.send(hello(protocol=(7, 9)))
                await agent.take(Refuse)
                continue
            await agent.greet()
            await agent.send(metrics(sample(1)))
            await agent.take(MetricsAck)
            if ends == "aborted":
                agent.connection.transport.abort()
    await until_freed(before)
