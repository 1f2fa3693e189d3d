"""Two machines with one identity: both are heard for a while, it is written down, and the third time nobody gets in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub_server.gateway.agents import liveness
from hub_server.pki.tables import CloneSuspicionRow
from protocol.enumerations import RefusalAction
from protocol.frames import HeartbeatAck, Refuse
from tests.integration.hub import RunningHub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.machine import AgentSocket, Identity, connected, enroll, greeted, heartbeat
from tests.integration.person import Json, Person


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "SUPERSEDED_GRACE_SECONDS", 1.0)


async def alive(agent: AgentSocket) -> None:
    await agent.send(heartbeat())
    await agent.take(HeartbeatAck)


async def suspected(hub: RunningHub, living: AgentSocket, identity: Identity, times: int) -> None:
    """Return once the hub stored so many suspicions; the living session goes on meanwhile."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await hub.count(CloneSuspicionRow, agent_id=identity.agent_id) != times:
            await alive(living)


async def test_clones_are_suspected_and_the_third_time_quarantined(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "cloned")

    def is_its(data: Json) -> bool:
        return bool(data["agentId"] == identity.agent_id)

    for seen in (1, 2):
        async with greeted(either_hub, identity) as older, greeted(either_hub, identity) as newer:
            await alive(older)
            assert (await older.ended())[0] == 4409
            await suspected(either_hub, newer, identity, seen)
    assert not watcher.held("agent:alert", is_its)
    async with greeted(either_hub, identity) as older, greeted(either_hub, identity) as newer:
        await alive(older)
        assert (await older.ended())[0] == 4409
        assert (await newer.ended())[0] == 4403
    alert = await watcher.take("agent:alert", is_its)
    assert (alert["type"], alert["severity"], alert["state"]) == ("clone_suspected", "CRITICAL", "OPEN")
    assert "3 times within an hour" in alert["message"]
    async with connected(either_hub, identity.tls()) as agent:
        assert (await agent.take(Refuse)).action is RefusalAction.RETRY_AFTER
    assert (await watcher.do("agents:get", agentId=identity.agent_id))["trust"] == "quarantined"
    await watcher.do("agents:release", agentId=identity.agent_id)
    async with greeted(either_hub, identity) as agent:
        await alive(agent)
    await watcher.do("agents:delete", agentId=identity.agent_id)


async def test_a_clone_that_leaves_early_is_seen_too_and_the_older_session_goes_on(
    hub: RunningHub, person: Person, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "SUPERSEDED_GRACE_SECONDS", 30)
    identity = await enroll(hub, folder, "visited")
    async with greeted(hub, identity) as older:
        async with greeted(hub, identity):
            await alive(older)
        for _ in range(2):
            await alive(older)
        assert not person.held("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)
        await suspected(hub, older, identity, 1)
    await person.do("agents:delete", agentId=identity.agent_id)
