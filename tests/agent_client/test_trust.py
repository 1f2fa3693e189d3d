"""Whom the agent believes: authorities and signers of the trust document, and how it comes to a newer one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.paths import Places
from protocol.enrollment import CaReply
from protocol.enumerations import CommandOutcome, DesiredName
from protocol.envelope import IssuingAuthority, SignedTrust
from protocol.frames import CommandResult, Desired, DesiredApplied, Heartbeat
from tests.agent_client.alive import alive, until
from tests.agent_client.fleet import Fleet, Signer, authority, own_id
from tests.agent_client.hub import Hub, running

pytestmark = pytest.mark.usefixtures("hurried")


def issuing(fleet: Fleet, *servers: Any) -> list[IssuingAuthority]:
    agents = IssuingAuthority(use="agents", certificate_pem=fleet.agents_ca.pem)
    return [agents, *(IssuingAuthority(use="servers", certificate_pem=server.pem) for server in servers)]


def claiming(fleet: Fleet, trust: SignedTrust) -> Hub:
    return Hub(claims=lambda: CaReply(ca_bundle_pem=fleet.bundle_pem, trust=trust))


def trust_on_disk(places: Places) -> bytes:
    return (places.state / "trust.json").read_bytes()


async def test_a_signer_counts_for_the_command_right_behind_its_trust_document(places: Places, tmp_path: Path) -> None:
    fleet, newcomer = Fleet(), Signer()
    newer = msgspec.to_builtins(fleet.trust(version=2, signers=[newcomer.as_trusted()]), str_keys=True)
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.first(Heartbeat)
            await peer.send(fleet.command(fleet.envelope(own_id("job-0"), ["true"])))
            await peer.first(CommandResult)  # an order that comes before the executor waits for it
            await peer.send(fleet.command(fleet.envelope(own_id("job-1"), ["true"]), newcomer))
            await peer.send(Desired(name=DesiredName.TRUST, hash="t2", body=newer))
            await peer.send(fleet.command(fleet.envelope(own_id("job-2"), ["true"]), newcomer))
            await peer.send(fleet.command(fleet.envelope(own_id("job-3"), ["true"]), fleet.signer))
            early, late, former = [
                await peer.first(CommandResult, lambda result, name=name: result.command_id == name)  # type: ignore[misc]
                for name in (own_id("job-1"), own_id("job-2"), own_id("job-3"))
            ]
            assert agent.status().trust_version == 2
    assert early.rule == "unknown_key"
    assert late.status is CommandOutcome.COMPLETED
    assert former.rule == "unknown_key"


async def test_a_hub_with_an_authority_that_is_new_to_the_agent_is_trusted_once_its_document_is_fetched(
    places: Places, tmp_path: Path
) -> None:
    fleet = Fleet()
    fleet.enroll_by_hand(places, 1)
    retired, fleet.servers_ca = fleet.servers_ca, authority("next servers", fleet.root)
    newer = fleet.trust(version=3, issuing_authorities=issuing(fleet, fleet.servers_ca))
    async with running(fleet, tmp_path, claiming(fleet, newer)) as hub:
        point_at(fleet, places, hub.port, retired)
        bundle = (places.certs / "ca-bundle.crt").read_bytes()
        async with alive(places) as agent:
            await hub.peer()
            await until(lambda: agent.status().link == "connected")
            assert agent.status().trust_version == 3
            assert (places.certs / "ca-bundle.crt").read_bytes() == bundle


@pytest.mark.parametrize("claim", ["forged", "older", "same", "nothing"])
async def test_a_hub_that_is_not_trusted_gets_no_further_with_a_document_that_proves_nothing(
    places: Places, tmp_path: Path, claim: str
) -> None:
    fleet = Fleet()
    retired, fleet.servers_ca = fleet.servers_ca, authority("next servers", fleet.root)
    authorities = issuing(fleet, fleet.servers_ca)
    claims = {
        "forged": claiming(fleet, Fleet().trust(version=9, issuing_authorities=authorities)),
        "older": claiming(fleet, fleet.trust(version=4, issuing_authorities=authorities)),
        "same": claiming(fleet, fleet.trust(version=5, issuing_authorities=authorities)),
        "nothing": Hub(),
    }
    async with running(fleet, tmp_path, claims[claim]) as hub:
        point_at(fleet, places, hub.port, retired, version=5)
        before = trust_on_disk(places)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "not this fleet's hub" in agent.status().advice
            assert hub.peers == []
    assert trust_on_disk(places) == before


async def test_a_retired_authority_is_refused_although_the_root_has_signed_it(places: Places, tmp_path: Path) -> None:
    fleet = Fleet()
    following = authority("next servers", fleet.root)
    async with running(fleet, tmp_path, Hub()) as hub:
        point_at(fleet, places, hub.port, following)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "not this fleet's hub" in agent.status().advice
            assert hub.peers == []


async def test_a_newer_document_is_kept_for_the_next_life_and_says_its_hash(places: Places, tmp_path: Path) -> None:
    fleet = Fleet()
    newer = msgspec.to_builtins(fleet.trust(version=2), str_keys=True)
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer(1)
            await peer.send(Desired(name=DesiredName.TRUST, hash="t2", body=newer))
            await peer.first(DesiredApplied)
        async with alive(places) as agent:
            await hub.peer(2)
            assert agent.status().trust_version == 2


def point_at(fleet: Fleet, places: Places, port: int, servers: Any, version: int = 1) -> None:
    """Enroll an agent by hand that knows `servers` as the one authority of hubs."""
    trust = fleet.trust(version=version, issuing_authorities=issuing(fleet, servers))
    fleet.enroll_by_hand(places, port, trust=trust)
