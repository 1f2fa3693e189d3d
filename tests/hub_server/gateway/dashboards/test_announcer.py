from __future__ import annotations

from datetime import timedelta
from typing import Final

from hub_server.events import AgentConnected, AgentDisconnected, DomainEvent
from hub_server.gateway.dashboards import announcer
from protocol.enumerations import ConnectionReason
from protocol.limits import UNSUBSCRIBED_AGENTS_MAX
from tests.hub_server.gateway.dashboards.hearing import hearing
from tests.hub_server.gateway.dashboards.stage import AT, ORGANISATION, Stage, agent

MANY: Final = 1000


def connected(number: int) -> DomainEvent:
    return AgentConnected(organisation_id=ORGANISATION, agent_id=f"a{number}", hostname="h", at=AT)


def disconnected(number: int) -> DomainEvent:
    return AgentDisconnected(
        organisation_id=ORGANISATION,
        agent_id=f"a{number}",
        hostname="h",
        at=AT + timedelta(seconds=1),
        reason=ConnectionReason.SITE_SILENT,
    )


async def test_many_sessions_that_begin_or_end_at_once_are_told_by_the_list() -> None:
    stage = Stage()
    async with stage.announcing():
        stage.fleet.add(*(agent(f"a{number}") for number in range(MANY)))
        await stage.settled()
        line = hearing(stage, "s")
        for number in range(MANY):
            stage.bus.publish(connected(number))
            stage.bus.publish(disconnected(number))
        await stage.settled()
        single = line.take("agent:connected")
        assert len(single) <= announcer.PRESENCE_A_TICK
        assert stage.announcer.untold >= 2 * MANY - announcer.PRESENCE_A_TICK
        told: set[str] = set()
        while len(told) < MANY:
            stage.announcer.tick()
            for delta in line.take("agents:status"):
                assert len(delta["agents"]) <= UNSUBSCRIBED_AGENTS_MAX
                told.update(one["id"] for one in delta["agents"])


async def test_a_few_sessions_are_told_one_by_one() -> None:
    stage = Stage()
    async with stage.announcing():
        stage.fleet.add(agent("a1"))
        line = hearing(stage, "s")
        stage.bus.publish(connected(1))
        await stage.settled()
        (event,) = line.take("agent:connected")
        assert event["agentId"] == "a1"


async def test_nothing_is_encoded_where_nobody_listens() -> None:
    stage = Stage()
    async with stage.announcing():
        stage.fleet.add(agent("a1"))
        stage.bus.publish(connected(1))
        await stage.settled()
        stage.announcer.tick()
        assert stage.lines.traffic.messages_encoded == 0
