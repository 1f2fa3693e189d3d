"""Revocation, quarantine and deletion: at once, for every session, and still so after a restart."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from hub_server.fleet.tables import AgentRow
from hub_server.pki.tables import CertificateRow
from protocol.enumerations import RefusalAction
from protocol.frames import CertificateReply, Command, HeartbeatAck, Refuse
from tests.integration.hub import RunningHub, running_hub
from tests.integration.machine import Identity, Key, connected, enroll, greeted, heartbeat, hello
from tests.integration.person import Json, Person, known_to, watching
from tests.integration.renewals import asked_or_cut, kept, renewed

WITHIN_SECONDS = 1.0


async def refusal_of(hub: RunningHub, identity: Identity) -> Refuse:
    """Return what the hub says to an agent that it does not let in."""
    async with connected(hub, identity.tls()) as agent:
        refuse = await agent.take(Refuse)
        assert (await agent.ended())[0] == refuse.code
        return refuse


async def test_a_revoked_agent_is_cut_off_within_a_second_and_stays_out(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "revoked")
    async with greeted(either_hub, identity) as agent:
        await watcher.take("agent:connected", lambda data: data["agentId"] == identity.agent_id)
        started = time.monotonic()
        reply = await watcher.do("agents:revoke", agentId=identity.agent_id, reason="stolen")
        assert (await agent.ended())[0] == 4403
        assert time.monotonic() - started < WITHIN_SECONDS
    gone = await watcher.take("agent:disconnected", lambda data: data["agentId"] == identity.agent_id)
    assert gone["reason"] == "revoked"
    assert (reply["trust"], reply["trustReason"], reply["certificateExpiresAt"]) == ("revoked", "stolen", None)
    refuse = await refusal_of(either_hub, identity)
    assert (refuse.code, refuse.action) == (4403, RefusalAction.NEVER)
    (listed,) = (await watcher.do("agents:list", filter={"text": "revoked"}))["agents"]
    assert (listed["status"], listed["statusReason"], listed["trust"]) == ("OFFLINE", "refused: revoked", "revoked")
    order = await watcher.ask("commands:create", agentId=identity.agent_id, commandData={"argv": ["true"]})
    assert order["error"]["code"] == "conflict"
    (certificate,) = (await watcher.do("certificates:list", agentId=identity.agent_id, state="revoked"))["certificates"]
    assert certificate["revokedAt"]


async def test_a_revocation_ends_every_session_of_the_agent(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "twofold")
    async with greeted(either_hub, identity) as older:
        new = await renewed(older, identity)
        async with greeted(either_hub, new) as newer, connected(either_hub, new.tls()) as at_the_door:
            await known_to(watcher, identity.agent_id)
            await watcher.do("agents:revoke", agentId=identity.agent_id)
            for session in (older, newer):
                assert (await session.ended(WITHIN_SECONDS))[0] == 4403
            await at_the_door.send(hello())
            assert (await at_the_door.take(Refuse)).action is RefusalAction.NEVER
            assert (await at_the_door.ended())[0] == 4403
    assert (await refusal_of(either_hub, new)).action is RefusalAction.NEVER


async def test_a_revocation_that_races_a_renewal_leaves_nothing_usable(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    for number in range(8):
        identity, key = await enroll(either_hub, folder, f"races-{number}"), Key()
        async with greeted(either_hub, identity) as agent:
            await known_to(watcher, identity.agent_id)
            async with asyncio.TaskGroup() as tasks:
                asking = tasks.create_task(asked_or_cut(agent, key.csr_pem()))
                tasks.create_task(watcher.do("agents:revoke", agentId=identity.agent_id))
        answer = asking.result()
        assert await either_hub.count(CertificateRow, agent_id=identity.agent_id, revoked_at=None) == 0
        if isinstance(answer, CertificateReply):
            late = kept(identity, key, answer.certificate_pem)
            assert (await refusal_of(either_hub, late)).action is RefusalAction.NEVER


async def test_a_deleted_agent_hears_that_it_may_never_come_back_also_from_a_restarted_hub(folder: Path) -> None:
    async with running_hub(folder / "hub") as hub:
        deleted, revoked = await enroll(hub, folder, "deleted"), await enroll(hub, folder, "revoked")
        async with watching(hub, await hub.sign_in()) as person:
            await known_to(person, deleted.agent_id)
            await known_to(person, revoked.agent_id)
            await person.do("agents:delete", agentId=deleted.agent_id)
            await person.do("agents:revoke", agentId=revoked.agent_id)
        for _ in range(2):
            for identity in (deleted, revoked):
                refuse = await refusal_of(hub, identity)
                assert (refuse.code, refuse.action) == (4403, RefusalAction.NEVER)
            await hub.stop()
            await hub.start()
        assert await hub.count(AgentRow) == 1


async def test_a_quarantined_agent_waits_outside_with_its_orders_until_it_is_released(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "quarantined")
    about = {"agentId": identity.agent_id}

    def is_its_alert(data: Json) -> bool:
        return bool(data["agentId"] == identity.agent_id)

    async with greeted(either_hub, identity) as agent:
        await watcher.take("agent:connected", is_its_alert)
        await watcher.do("agents:quarantine", **about, reason="odd")
        assert (await agent.ended())[0] == 4403
    assert (await watcher.take("agent:disconnected", is_its_alert))["reason"] == "quarantined"
    alert = await watcher.take("agent:alert", is_its_alert)
    assert (alert["type"], alert["state"], alert["message"]) == ("quarantined", "OPEN", "In quarantine: odd")
    refuse = await refusal_of(either_hub, identity)
    assert (refuse.code, refuse.action, refuse.retry_after_sec) == (4403, RefusalAction.RETRY_AFTER, 900)
    (listed,) = (await watcher.do("agents:list", filter={"text": "quarantined"}))["agents"]
    assert (listed["status"], listed["statusReason"]) == ("OFFLINE", "refused: in quarantine")
    order = (await watcher.do("commands:create", **about, commandData={"argv": ["true"]}))["command"]
    assert order["status"] == "PENDING"
    assert (await watcher.do("agents:release", **about))["trust"] == "trusted"
    assert (await watcher.take("agent:alert", is_its_alert))["state"] == "RESOLVED"
    async with greeted(either_hub, identity) as agent:
        assert (await agent.take(Command)).command_id == order["id"]
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
    await watcher.do("agents:delete", **about)
