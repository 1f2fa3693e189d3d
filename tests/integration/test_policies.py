"""A policy from its making to a refused job and to what its checks found on a machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from protocol.frames import MetricsAck, Sample
from tests.integration.hub import RunningHub
from tests.integration.machine import enroll, greeted, metrics, now_ms
from tests.integration.person import Person

POLL_SECONDS = 0.05
DEADLINE_SECONDS = 60.0
FIREWALL = {"name": "Firewall", "fact": "security.firewall_enabled", "operator": "equals", "value": True}


async def judged(person: Person, agent_id: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        results: list[dict[str, Any]] = []
        while not results:
            await asyncio.sleep(POLL_SECONDS)
            results = (await person.do("compliance:list", agentId=agent_id))["results"]
    [result] = results
    return result


async def test_a_policy_refuses_jobs_and_its_checks_tell_what_they_found(
    hub: RunningHub, person: Person, tmp_path: Path
) -> None:
    identity = await enroll(hub, tmp_path, "careful")
    async with greeted(hub, identity) as agent:
        security = Sample(seq=1, ts=now_ms(), metric_type="security", metric_data={"firewall_enabled": False})
        await agent.send(metrics(security))
        await agent.take(MetricsAck)
        await person.do("agents:update", agentId=identity.agent_id, tags=["careful"])
        terms = {"name": "Careful", "tags": ["careful"], "commands": {"deniedPrograms": ["rm"]}, "checks": [FIREWALL]}
        made = (await person.do("policies:create", terms=terms))["policy"]
        result = await judged(person, identity.agent_id)
    assert (result["state"], result["found"], result["policyId"]) == ("failed", "false", made["id"])
    assert (await person.do("compliance:summary"))["machines"]["failed"] == 1

    order = {"agentId": identity.agent_id, "commandData": {"argv": ["/bin/rm", "-rf", "/"]}}
    refused = await person.ask("commands:create", order)
    assert refused["error"]["code"] == "forbidden"
    assert "“Careful” refuses this (deniedPrograms)" in refused["error"]["message"]
    assert (await person.do("commands:list", agentId=identity.agent_id))["total"] == 0
    allowed = await person.do("commands:create", **order | {"commandData": {"argv": ["uptime"]}, "reason": "audit 7"})
    [entry] = (await person.do("audit:search", target=f"command:{allowed['command']['id']}"))["entries"]
    assert entry["detail"]["reason"] == "audit 7"
    await person.do("policies:update", policyId=made["id"], terms={**terms, "turnedOff": ["jobs"]})
    stored = (await person.do("commands:get", commandId=allowed["command"]["id"]))["command"]
    assert stored["status"] == "PENDING"
    await person.do("policies:delete", policyId=made["id"])
    assert (await person.do("compliance:list", agentId=identity.agent_id))["total"] == 0
    await person.do("agents:delete", agentId=identity.agent_id)
