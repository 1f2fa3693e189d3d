"""An agent's older session may still speak while its newer one says everything again."""

from __future__ import annotations

import asyncio

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.storage.engine import Database
from tests.clocks import FakeClock
from tests.hub_server.commands.builders import Hub, KnownAgents, chunk, result, started


@pytest.fixture
def hub(database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str) -> Hub:
    return Hub(database, bus, clock, organisation_id, KnownAgents())


@pytest.mark.parametrize("has_ended", [False, True])
async def test_output_that_two_sessions_say_at_once_is_stored_once(hub: Hub, agent_id: str, *, has_ended: bool) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    hub.service.started(hub.organisation_id, agent_id, started(view.id))
    if has_ended:
        hub.service.result(hub.organisation_id, agent_id, result(view.id))
    await hub.settle()
    restarted = await hub.restarted()

    async def say(*pieces: tuple[int, str]) -> None:
        for offset, data in pieces:
            await restarted.service.chunk(hub.organisation_id, agent_id, chunk(view.id, offset, data))

    await asyncio.gather(say((0, "one "), (4, "two "), (8, "three")), say((0, "one "), (4, "tw")))
    await restarted.settle()
    assert (await restarted.output(view.id)).data == "one two three"
