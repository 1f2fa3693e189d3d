"""Two sessions of one identity, sessions that do not read, and how each end is told."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from hub_server.gateway.agents import liveness
from protocol.enumerations import GoodbyeReason
from protocol.frames import Goodbye, HeartbeatAck
from protocol.limits import FRAMES_BURST
from tests.integration.hub import RunningHub
from tests.integration.machine import connected, enroll, greeted, heartbeat, hello
from tests.integration.person import Person, known_to

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


async def test_an_agent_that_does_not_read_is_cut_off_before_much_is_queued(
    hub: RunningHub, person: Person, folder: Path
) -> None:
    """Orders of 180 KiB go to an agent that takes none: the hub gives up at its bound, and keeps the rest."""
    identity = await enroll(hub, folder, "deaf")
    await known_to(person, identity.agent_id)
    orders, received = 60, []
    async with connected(hub, identity.tls(), reads=False, receive_buffer_bytes=4 * KIB) as agent:
        await agent.send(hello())
        await person.take("agent:connected", lambda data: data["agentId"] == identity.agent_id)
        for _ in range(orders):
            data = {"argv": ["true", *["x" * (30 * KIB)] * 6]}
            await person.do("commands:create", agentId=identity.agent_id, commandData=data)
        gone = await person.take("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)
        assert gone["reason"] == "slow_consumer"
        with suppress(ConnectionClosed):
            while True:
                received.append(await agent.connection.recv())
    assert len(received) < orders // 2
    await person.do("agents:delete", agentId=identity.agent_id)


async def test_an_agent_that_talks_too_much_is_slowed_and_not_lost(hub: RunningHub, folder: Path) -> None:
    identity = await enroll(hub, folder)
    async with greeted(hub, identity) as agent:
        for clock_ms in range(FRAMES_BURST + 10):
            await agent.send(heartbeat(clock_ms))
        last = await agent.take(HeartbeatAck, lambda ack: ack.echo_clock_ms == FRAMES_BURST + 9)
        assert last.ok
