"""Who hears and sees what: roles and organisations."""

from __future__ import annotations

from pathlib import Path

from protocol.enumerations import Role
from protocol.frames import Command, MetricsAck
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, greeted, metrics, sample
from tests.integration.person import Person, watching


async def test_a_viewer_hears_nothing_of_commands(hub: RunningHub, person: Person, identity: Identity) -> None:
    await hub.add_user("watches-only", Role.VIEWER)
    async with watching(hub, await hub.sign_in("watches-only")) as viewer:
        created = await person.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["secret"]})
        await person.take("agent:command:status", lambda data: data["commandId"] == created["command"]["id"])
        await person.do("commands:cancel", commandId=created["command"]["id"])
        await person.take("agent:command:result", lambda data: data["commandId"] == created["command"]["id"])
        await viewer.do("agents:list")
        heard = {event.name for event in viewer.inbox.held()}
        assert heard <= {"agents:status", "agent:metrics", "agent:connected", "agent:disconnected", "agent:alert"}


async def test_another_organisation_is_another_world(
    hub: RunningHub, person: Person, identity: Identity, folder: Path
) -> None:
    theirs = await hub.add_organisation("elsewhere")
    await hub.add_user("eve", Role.ORG_ADMIN, theirs)
    command = await person.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["x"]})
    token = await person.do("tokens:create")
    async with watching(hub, await hub.sign_in("eve")) as eve, greeted(hub, identity) as agent:
        await agent.take(Command)
        before = await hub.rows()
        assert (await eve.take("agents:status"))["agents"] == []
        for operation, body in {
            "agents:get": {"agentId": identity.agent_id},
            "agents:update": {"agentId": identity.agent_id, "site": "mine"},
            "agents:delete": {"agentId": identity.agent_id},
            "commands:create": {"agentId": identity.agent_id, "commandData": {"argv": ["x"]}},
            "commands:get": {"commandId": command["command"]["id"]},
            "commands:cancel": {"commandId": command["command"]["id"]},
            "commands:output": {"commandId": command["command"]["id"], "stream": "stdout"},
            "tokens:revoke": {"tokenId": token["token"]["id"]},
        }.items():
            assert (await eve.ask(operation, body))["error"]["code"] == "not_found", operation
        assert (await eve.do("agents:list"))["total"] == 0
        assert (await eve.do("commands:list"))["total"] == 0
        assert (await eve.do("alerts:list"))["total"] == 0
        assert (await eve.do("tokens:list"))["total"] == 0
        query = {"agentIds": [identity.agent_id], "metrics": ["cpu_percent"], "from": 0, "to": 2**50}
        (series,) = (await eve.ask("metrics:query", query))["series"]
        assert series["timestamps"] == []
        assert (await eve.do("feed:subscribe", agentIds=[identity.agent_id]))["agentIds"] == []
        assert not await hub.changed_since(before)
        await agent.send(metrics(sample(1, cpu_percent=99.0)))
        await agent.take(MetricsAck)
        await person.take("agent:alert", lambda data: data["agentId"] == identity.agent_id)
        await eve.do("agents:list")
        assert {event.name for event in eve.inbox.held()} <= {"agents:metrics"}
        assert not [event for event in eve.inbox.held() if event.data["samples"]]
