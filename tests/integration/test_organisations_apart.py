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


async def test_an_administrator_of_the_hub_makes_an_organisation_bounds_it_and_others_hear_nothing(
    either_hub: RunningHub, watcher: Person
) -> None:
    await either_hub.add_user("hana", Role.HUB_ADMIN)
    async with watching(either_hub, await either_hub.sign_in("hana")) as hana:
        made = (await hana.do("organisations:create", name="Bounded", quotas={"users": 1}))["organisation"]
        assert (made["quotas"], made["users"]) == ({"agents": None, "users": 1, "openCommands": None}, 0)
        await either_hub.add_user("uma", Role.ORG_ADMIN, made["id"])
        listed = {each["name"]: each for each in (await hana.do("organisations:list"))["organisations"]}
        assert listed["Bounded"]["users"] == 1
        of_the_hub = await hana.do("audit:search", action="authorities:*")
        assert of_the_hub["total"] > 0
    async with watching(either_hub, await either_hub.sign_in("uma")) as uma:
        grace = {"username": "grace-of-bounded", "password": "marzipan-bicycle-42", "role": "viewer"}
        assert (await uma.ask("users:create", grace))["error"]["code"] == "quota"
        for operation, body in {
            "organisations:list": {},
            "organisations:create": {"name": "mine"},
            "organisations:update": {"organisationId": made["id"], "quotas": {}},
        }.items():
            assert (await uma.ask(operation, body))["error"]["code"] == "forbidden", operation
        assert [user["username"] for user in (await uma.do("users:list"))["users"]] == ["uma"]
        entries = (await uma.do("audit:search", text="bounded"))["entries"]
        assert [entry["action"] for entry in entries] == ["organisations:create"]
        assert (await uma.do("audit:search", action="authorities:*"))["total"] == 0
    # hana's own organisation is ada's too: the deed is in its audit, what happened inside the other is not
    ours = (await watcher.do("audit:search", limit=1000))["entries"]
    assert "organisations:create" in {entry["action"] for entry in ours}
    assert not [entry for entry in ours if entry["detail"].get("username") == "uma"]
