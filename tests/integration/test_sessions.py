"""Two sessions of one identity, sessions that do not read, and how each end is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_server.gateway.agents import liveness
from protocol.enumerations import GoodbyeReason
from protocol.frames import Command, CommandAccepted, Goodbye, HeartbeatAck
from protocol.limits import FRAMES_BURST
from tests.integration.hub import RunningHub
from tests.integration.machine import enroll, greeted, heartbeat
from tests.integration.person import Person

KIB = 1024


async def test_a_newer_session_takes_over(
    hub: RunningHub, person: Person, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "SUPERSEDED_GRACE_SECONDS", 0.2)
    identity = await enroll(hub, folder, "twice")
    async with greeted(hub, identity) as older:
        await person.take("agent:connected", lambda data: data["agentId"] == identity.agent_id)
        async with greeted(hub, identity) as newer:
            assert (await older.ended())[0] == 4409
            await newer.send(heartbeat())
            await newer.take(HeartbeatAck)
            assert not person.held("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)
            (listed,) = (await person.do("agents:list", filter={"text": "twice"}))["agents"]
            assert listed["status"] == "ACTIVE"
    await person.take("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)


@pytest.mark.parametrize("reason", list(GoodbyeReason))
async def test_a_goodbye_is_the_reason(hub: RunningHub, person: Person, folder: Path, reason: GoodbyeReason) -> None:
    identity = await enroll(hub, folder)
    async with greeted(hub, identity) as agent:
        await agent.send(Goodbye(reason=reason))
    gone = await person.take("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)
    assert gone["reason"] == reason.value


async def test_a_bad_frame_is_the_reason(hub: RunningHub, person: Person, folder: Path) -> None:
    identity = await enroll(hub, folder)
    async with greeted(hub, identity) as agent:
        await agent.send("{")
        await agent.ended()
    gone = await person.take("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)
    assert gone["reason"] == "protocol_error"


async def test_a_connection_that_breaks_is_the_reason(hub: RunningHub, person: Person, folder: Path) -> None:
    identity = await enroll(hub, folder)
    async with greeted(hub, identity) as agent:
        agent.connection.transport.abort()
        await agent.ended()
    gone = await person.take("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)
    assert gone["reason"] == "connection_lost"


async def test_large_orders_wait_for_an_agent_that_does_not_take_them(
    hub: RunningHub, person: Person, folder: Path
) -> None:
    """An agent that accepts none of its 180 KiB orders gets what its outbox holds, and the rest as it accepts."""
    identity = await enroll(hub, folder, "deaf")
    orders = 12
    async with greeted(hub, identity) as agent:
        for _ in range(orders):
            data = {"argv": ["true", *["x" * (30 * KIB)] * 6]}
            await person.do("commands:create", agentId=identity.agent_id, commandData=data)
        first = await agent.take(Command)
        await agent.send(heartbeat(1))
        await agent.take(HeartbeatAck)
        assert not agent.inbox.held(lambda frame: isinstance(frame, Command))
        for _ in range(orders - 1):
            await agent.send(CommandAccepted(command_id=first.command_id, ts=1))
            first = await agent.take(Command)
    await person.do("agents:delete", agentId=identity.agent_id)


async def test_an_agent_that_talks_too_much_is_slowed_and_not_lost(hub: RunningHub, folder: Path) -> None:
    identity = await enroll(hub, folder)
    async with greeted(hub, identity) as agent:
        for clock_ms in range(FRAMES_BURST + 10):
            await agent.send(heartbeat(clock_ms))
        last = await agent.take(HeartbeatAck, lambda ack: ack.echo_clock_ms == FRAMES_BURST + 9)
        assert last.ok
