"""The other ways in, on a real hub: after a person's yes, by an organisation's key, and back by the old key."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub_server.enrollment.tables import ApprovalRow, EnrollmentUseRow
from hub_server.pki.tables import CertificateRow
from protocol.enrollment import recovery_statement
from protocol.frames import HeartbeatAck
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, Key, enroll, enroll_body, greeted, heartbeat, now_ms, own_address
from tests.integration.person import Person, known_to

ENROLL = "/api/v1/agent/enroll"
REGISTER = "/api/agents/register"
RECOVER = "/api/v1/agent/recover"


async def asked(
    hub: RunningHub, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of the answer to a machine with an address of its own."""
    async with hub.machine(own_address()) as session, session.post(path, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


def identity_in(folder: Path, agent_id: str, chain_pem: str, key: Key, root_pem: str) -> Identity:
    """Write what a machine got, and return it."""
    home = folder / f"{agent_id}-{now_ms()}"
    home.mkdir()
    (home / "client.crt").write_text(chain_pem)
    (home / "client.key").write_bytes(key.pem)
    return Identity(agent_id, "raw-agent", home / "client.crt", home / "client.key", root_pem)


async def test_a_machine_waits_for_a_yes_and_then_connects(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    made = await watcher.do("tokens:create", approval=True, site="berlin")
    assert made["token"]["approval"]
    key = Key()
    body = enroll_body(made["tokenText"], key.csr_pem())
    status, pending = await asked(either_hub, ENROLL, body)
    assert (status, pending["status"]) == (202, "pending")
    (waiting,) = [
        approval
        for approval in (await watcher.do("approvals:list"))["approvals"]
        if approval["agentId"] == pending["agent_id"]
    ]
    assert (waiting["kind"], waiting["state"], waiting["hostname"], waiting["site"]) == (
        "enroll",
        "pending",
        "raw-agent",
        "berlin",
    )
    decided = await watcher.do("approvals:approve", approvalId=waiting["id"])
    assert (decided["approval"]["state"], decided["approval"]["decidedBy"]) == ("approved", "user:ada")
    assert await either_hub.count(EnrollmentUseRow, token_id=made["token"]["id"]) == 0
    status, reply = await asked(either_hub, ENROLL, body)
    assert status == 200
    assert await either_hub.count(EnrollmentUseRow, token_id=made["token"]["id"]) == 1
    assert await either_hub.count(CertificateRow, agent_id=reply["agent_id"]) == 1
    joined = identity_in(folder, reply["agent_id"], reply["client_cert_pem"], key, reply["ca_bundle_pem"])
    async with greeted(either_hub, joined):
        await known_to(watcher, joined.agent_id)


async def test_a_machine_that_is_turned_away_hears_it(either_hub: RunningHub, watcher: Person) -> None:
    made = await watcher.do("tokens:create", approval=True)
    body = enroll_body(made["tokenText"], Key().csr_pem())
    _, pending = await asked(either_hub, ENROLL, body)
    (waiting,) = [
        approval
        for approval in (await watcher.do("approvals:list"))["approvals"]
        if approval["agentId"] == pending["agent_id"]
    ]
    await watcher.do("approvals:reject", approvalId=waiting["id"])
    status, refusal = await asked(either_hub, ENROLL, body)
    assert (status, refusal["error"]["code"]) == (403, "forbidden")
    assert "turned away by a person" in refusal["error"]["message"]
    assert await either_hub.count(ApprovalRow, id=waiting["id"], state="rejected") == 1


async def test_a_machine_registers_in_the_words_of_seed_004_and_connects(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    made = await watcher.do("organisation-keys:create", name="provisioning", tags=["web"])
    key = Key()
    body = {
        "hostname": "server-01",
        "ipAddress": "192.168.1.100",
        "osType": "linux",
        "osVersion": "Ubuntu 22.04",
        "agentVersion": "1.0.0",
        "config": {"collection_interval": 60, "metrics_enabled": True},
        "csrPem": key.csr_pem(),
    }
    headers = {"X-API-Key": made["keyText"]}
    status, reply = await asked(either_hub, REGISTER, body, headers)
    assert (status, reply["status"]) == (201, "created")
    assert await asked(either_hub, REGISTER, body, headers) == (201, reply)
    joined = identity_in(folder, reply["id"], reply["certificatePem"], key, reply["caBundlePem"])
    async with greeted(either_hub, joined):
        await known_to(watcher, joined.agent_id)
    agent = (await watcher.do("agents:get", agentId=joined.agent_id))["agent"]
    assert (agent["hostname"], agent["tags"]) == ("server-01", ["web"])
    (listed,) = [
        view for view in (await watcher.do("organisation-keys:list"))["keys"] if view["id"] == made["key"]["id"]
    ]
    assert listed["used"] == 1
    await watcher.do("organisation-keys:revoke", keyId=listed["id"])
    status, refusal = await asked(either_hub, REGISTER, {**body, "csrPem": Key().csr_pem()}, headers)
    assert (status, refusal["error"]["code"]) == (401, "token_refused")
    assert "revoked" in refusal["error"]["message"]


async def test_an_agent_comes_back_by_its_old_key_and_a_yes(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    before = await enroll(either_hub, folder)
    new = Key()
    body = recovery(before, new)
    status, pending = await asked(either_hub, RECOVER, body)
    assert (status, pending["agent_id"]) == (202, before.agent_id)
    (waiting,) = [
        approval
        for approval in (await watcher.do("approvals:list"))["approvals"]
        if approval["agentId"] == before.agent_id
    ]
    assert waiting["kind"] == "recover"
    await watcher.do("approvals:approve", approvalId=waiting["id"])
    status, reply = await asked(either_hub, RECOVER, recovery(before, new))
    assert (status, reply["agent_id"]) == (200, before.agent_id)
    again = identity_in(folder, before.agent_id, reply["client_cert_pem"], new, reply["ca_bundle_pem"])
    async with greeted(either_hub, again) as agent:
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
        status, refusal = await asked(either_hub, RECOVER, recovery(before, Key()))
    assert (status, refusal["error"]["code"], refusal["error"]["path"]) == (401, "unauthenticated", "$.certificate_pem")


def recovery(identity: Identity, new: Key) -> dict[str, Any]:
    """Return the request of an agent that proves its present key and asks for a certificate of `new`."""
    csr_pem, at_ms = new.csr_pem(), now_ms()
    signature = Key(identity.key.read_bytes()).private.sign(recovery_statement("jtnt", csr_pem, at_ms))
    return {
        "certificate_pem": identity.certificate.read_text(),
        "csr_pem": csr_pem,
        "signed_at_ms": at_ms,
        "signature": base64.b64encode(signature).decode(),
        "agent_version": "1.0.0",
        "boot_id": "boot-1",
    }
