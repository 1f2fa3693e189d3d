"""Certificates renewed over the socket: make before break, in time, and never for who is not entitled."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_server.gateway.agents import liveness
from hub_server.pki.tables import CertificateRow, CloneSuspicionRow
from protocol.enumerations import AuthorityUse, DesiredName, RefusalAction
from protocol.frames import CertificateReply, Desired, Error, HeartbeatAck, Refuse
from tests.integration.hub import RunningHub, running_hub
from tests.integration.machine import Key, connected, enroll, greeted, heartbeat
from tests.integration.person import Person, watching
from tests.integration.renewals import asked, kept, renewed


async def test_an_agent_changes_over_to_its_new_certificate_and_is_never_away(
    either_hub: RunningHub, watcher: Person, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "SUPERSEDED_GRACE_SECONDS", 0.2)
    old = await enroll(either_hub, folder, "renews")
    async with greeted(either_hub, old) as older:
        new = await renewed(older, old)
        async with greeted(either_hub, new) as newer:
            assert (await older.ended())[0] == 4409
            await newer.send(heartbeat())
            await newer.take(HeartbeatAck)
            assert not watcher.held("agent:disconnected", lambda data: data["agentId"] == old.agent_id)
            assert await either_hub.count(CloneSuspicionRow, agent_id=old.agent_id) == 0
            async with connected(either_hub, old.tls()) as late:
                assert (await late.take(Refuse)).action is RefusalAction.RE_ENROLL
                assert (await late.ended())[0] == 4401
    listed = await watcher.do("certificates:list", agentId=old.agent_id, state=None)
    assert sorted(each["state"] for each in listed["certificates"]) == ["current", "superseded"]
    assert {each["hostname"] for each in listed["certificates"]} == {"renews"}
    await watcher.do("agents:delete", agentId=old.agent_id)


async def test_until_the_new_session_speaks_both_certificates_count(either_hub: RunningHub, folder: Path) -> None:
    """A crash of the agent before its swap: whichever pair it finds on its disk gets it in."""
    old = await enroll(either_hub, folder)
    async with greeted(either_hub, old) as agent:
        new = await renewed(agent, old)
    async with greeted(either_hub, new):
        pass
    async with greeted(either_hub, old):
        pass
    async with greeted(either_hub, new) as agent:
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
    async with connected(either_hub, old.tls()) as late:
        assert (await late.ended())[0] == 4401


async def test_the_older_session_goes_on_when_the_newer_breaks(
    hub: RunningHub, person: Person, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "SUPERSEDED_GRACE_SECONDS", 3.0)
    old = await enroll(hub, folder, "breaks")
    async with greeted(hub, old) as older:
        async with greeted(hub, await renewed(older, old)) as newer:
            newer.connection.transport.abort()
        await older.send(heartbeat())
        await older.take(HeartbeatAck)
        assert not person.held("agent:disconnected", lambda data: data["agentId"] == old.agent_id)
        (listed,) = (await person.do("agents:list", filter={"text": "breaks"}))["agents"]
        assert listed["status"] == "ACTIVE"


async def test_a_lost_answer_is_given_again_and_a_second_key_has_to_wait(hub: RunningHub, folder: Path) -> None:
    identity = await enroll(hub, folder)
    key = Key()
    async with greeted(hub, identity) as agent:
        first = await asked(agent, key.csr_pem())
        again = await asked(agent, key.csr_pem())
        assert isinstance(first, CertificateReply)
        assert isinstance(again, CertificateReply)
        assert first.certificate_pem == again.certificate_pem
        refused = await asked(agent, Key().csr_pem())
        assert isinstance(refused, Error)
        assert refused.code == "rate_limited"
        assert "ask again in" in refused.message
    assert await hub.count(CertificateRow, agent_id=identity.agent_id) == 2
    async with greeted(hub, kept(identity, key, first.certificate_pem)):
        pass


async def test_a_request_that_is_refused_does_not_end_the_session(hub: RunningHub, folder: Path) -> None:
    identity, other = await enroll(hub, folder), await enroll(hub, folder)
    async with greeted(hub, identity) as agent:
        for csr_pem, code in (
            ("no request", "invalid_request"),
            (Key(identity.key.read_bytes()).csr_pem(), "invalid_request"),
            (Key(other.key.read_bytes()).csr_pem(), "key_in_use"),
        ):
            refused = await asked(agent, csr_pem)
            assert isinstance(refused, Error)
            assert refused.code == code
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
    assert await hub.count(CertificateRow, agent_id=identity.agent_id) == 1


async def test_a_session_ends_when_its_certificate_does(folder: Path) -> None:
    async with running_hub(folder / "hub", pki={"agent_certificate_seconds": 4}) as hub:
        identity = await enroll(hub, folder)
        async with greeted(hub, identity) as agent:
            assert await agent.ended(20) == (
                4401,
                "the agent's certificate has expired; it asks for recovery, or enroll it again",
            )


async def test_a_rotation_reaches_agents_over_their_session(folder: Path) -> None:
    pki = {
        "agent_certificate_seconds": 60,
        "server_certificate_seconds": 60,
        "overlap_seconds": 4,
        "issuing_seconds": 400,
    }
    async with running_hub(folder / "hub", pki=pki) as hub, watching(hub, await hub.sign_in()) as person:
        identity = await enroll(hub, folder)
        async with greeted(hub, identity) as agent:
            before = {offer.name: offer for offer in [await agent.take(Desired) for _ in range(4)]}
            await hub.authority.rotate(AuthorityUse.AGENTS, actor="test")
            trust = await agent.take(Desired)
            terms = await agent.take(Desired)
            assert (trust.name, terms.name) == (DesiredName.TRUST, DesiredName.CERTIFICATE)
            assert terms.hash != before[DesiredName.CERTIFICATE].hash
            new = await renewed(agent, identity)
            listed = (await person.do("certificates:list", state=None))["certificates"]
            assert {each["issuer"] for each in listed} == {
                offer.body["issuerSha256"] for offer in (before[DesiredName.CERTIFICATE], terms)
            }
            async with greeted(hub, new):
                pass
