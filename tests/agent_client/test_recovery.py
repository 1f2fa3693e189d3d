"""An agent whose certificate ran out: proven by its old key, let in again once a person has approved."""

from __future__ import annotations

import base64
import ssl
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import load_pem_x509_certificate, load_pem_x509_csr

from agent_client.agent import Agent
from agent_client.cli import main
from agent_client.errands.desk import do
from agent_client.errands.shapes import AskRecovery, Failed, Fault, KeyMade, MakeKey, RecoveryPending
from agent_client.errands.shapes import Fleet as ExpectedFleet
from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from agent_client.report import status_lines
from protocol.codes import ErrorCode
from protocol.enrollment import EnrollPending, RecoverRequest, recovery_statement
from protocol.enumerations import RefusalAction
from protocol.frames import Heartbeat, Refuse
from tests.agent_client.alive import alive, until
from tests.agent_client.clock import SteppingClock
from tests.agent_client.door import Door, Reply, error, listening
from tests.agent_client.fleet import AGENT, DOMAIN, Fleet, fingerprint_of, now_ms
from tests.agent_client.hub import Hub, Peer, running

pytestmark = pytest.mark.usefixtures("hurried")


def pending(_: RecoverRequest) -> Reply:
    return 202, EnrollPending(agent_id=AGENT, poll_after_sec=5)


def is_proven(request: RecoverRequest) -> bool:
    """Do as the hub does: raise unless the old certificate's key has signed for the new one."""
    old = load_pem_x509_certificate(request.certificate_pem.encode()).public_key()
    assert isinstance(old, Ed25519PublicKey)
    statement = recovery_statement(DOMAIN, request.csr_pem, request.signed_at_ms)
    old.verify(base64.b64decode(request.signature), statement)
    return abs(request.signed_at_ms - now_ms()) < 60_000


def fingerprint_in(request: RecoverRequest) -> str:
    return fingerprint_of(load_pem_x509_csr(request.csr_pem.encode()).public_key())


async def test_an_expired_agent_waits_for_a_person_with_one_key_and_comes_back_when_approved(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    door = Door(fleet, recover=pending)
    with listening(door, tmp_path / "server", only_clients_of=fleet, verify_mode=ssl.CERT_OPTIONAL):
        fleet.enroll_by_hand(places, door.port, days=-1)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            (request,) = door.recoveries
            assert is_proven(request)
            assert fingerprint_in(request) in agent.status().advice
            assert "approves" in agent.status().advice
            assert agent.status().certificate.renewal == "awaiting_approval"
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000
            assert fingerprint_in(request) in "\n".join(status_lines(agent.status()))
            agent.reload()
            await until(lambda: len(door.recoveries) == 2)
            assert door.recoveries[1].csr_pem == request.csr_pem
            door.recover = lambda request: (200, door.enrolled(request))
            agent.reload()
            await until((places.certs / "next" / "client.crt").exists)
    async with running(fleet, tmp_path, Hub(port=door.port)) as hub, alive(places) as agent:
        await (await hub.peer()).first(Heartbeat)
        assert agent.status().certificate.renewal == "scheduled"
    (pair,) = Pairs(places).candidates(AGENT)
    assert pair.facts.not_after_ms > now_ms()


async def test_a_hub_that_calls_the_certificate_expired_is_asked_for_recovery_whatever_our_clock_says(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async def refuse(peer: Peer) -> None:
        message = "the agent's certificate has expired; it asks for recovery, or enroll it again"
        await peer.send(Refuse(code=4401, message=message, action=RefusalAction.RE_ENROLL))
        await peer.connection.close(4401, message)

    async with running(fleet, tmp_path, Hub(instead_of_welcome=refuse)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "its recovery failed: cannot reach the hub" in agent.status().advice, "this one has no such route"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _, __: (403, error(ErrorCode.FORBIDDEN, "this agent was revoked")), "this agent was revoked"),
        (lambda door, request: (200, door.enrolled(request, agent_id="agent-9")), "not for this agent"),
        (lambda _, request: (200, Door(Fleet()).enrolled(request)), "does not chain"),
    ],
)
async def test_a_recovery_that_is_refused_or_does_not_hold_is_said_and_changes_nothing(
    fleet: Fleet, places: Places, tmp_path: Path, answer: object, words: str
) -> None:
    assert callable(answer)
    door = Door(fleet, recover=lambda request: answer(door, request))
    with listening(door, tmp_path / "server", only_clients_of=fleet, verify_mode=ssl.CERT_OPTIONAL):
        fleet.enroll_by_hand(places, door.port, days=-1)
        before = (places.certs / "client.crt").read_bytes()
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert words in agent.status().advice
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000
    assert (places.certs / "client.crt").read_bytes() == before
    assert not (places.certs / "next" / "client.crt").exists()


@pytest.mark.parametrize("is_told", [True, False], ids=["the hub says so", "only our clock does"])
async def test_a_session_that_ends_because_the_certificate_ran_out_is_followed_by_a_recovery_at_once(
    fleet: Fleet, places: Places, tmp_path: Path, is_told: bool
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, days=3 / 86_400, first_retry_spread_seconds=40.0)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.first(Heartbeat)
            facts = Pairs(places).candidates(AGENT)[0].facts
            await until(lambda: now_ms() > facts.not_after_ms)
            await peer.connection.close(4401, "the agent's certificate has expired" if is_told else "come no more")
            await until(lambda: agent.status().next_attempt_ms)
            assert (agent.status().next_attempt_ms or 0) - now_ms() <= 40_000
            assert "ran out; it asks for a new one" in agent.status().advice
            assert "renewed by itself" not in "\n".join(status_lines(agent.status()))
            agent.stop()
    door = Door(fleet, port=hub.port, recover=pending)
    with listening(door, tmp_path / "server", only_clients_of=fleet, verify_mode=ssl.CERT_OPTIONAL):
        async with alive(places) as agent:
            await until(lambda: door.recoveries)


async def test_a_certificate_that_counts_still_is_not_recovered_when_the_hub_ends_a_session(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.first(Heartbeat)
            await peer.connection.close(4401, "this hub does not know the agent")
            await until(lambda: agent.status().next_attempt_ms)
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000
            assert "does not know this agent; enroll again" in agent.status().advice


def turned_away_since(agent: Agent, tried_ms: int | None) -> bool:
    """Return whether an attempt later than that at `tried_ms` ended with the hub's no."""
    status = agent.status()
    is_later = status.next_attempt_ms not in {None, tried_ms}
    return is_later and "403 forbidden" in status.advice and status.certificate.renewal == "forbidden"


async def test_after_a_persons_no_the_hub_is_asked_again_once_an_hour_and_the_status_says_so(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    no = "this machine was turned away by a person; ask whoever runs the hub"
    clock = SteppingClock()
    door = Door(fleet, recover=lambda _: (403, error(ErrorCode.FORBIDDEN, no)))
    with listening(door, tmp_path / "server", only_clients_of=fleet, verify_mode=ssl.CERT_OPTIONAL):
        fleet.enroll_by_hand(places, door.port, days=-1)
        async with alive(places, clock) as agent:
            await until(lambda: agent.status().advice)
            shown = "\n".join(status_lines(agent.status()))
            assert f"403 forbidden): the hub refused: {no}. It asks again once an hour; enroll again:" in shown
            assert "IT GETS NONE (403 forbidden)" in shown
            assert agent.status().certificate.renewal == "forbidden"
            for minutes in (15, 30, 59):
                clock.ahead_seconds = minutes * 60
                tried_ms = agent.status().next_attempt_ms
                agent.reload()
                await until(partial(turned_away_since, agent, tried_ms))
            assert len(door.recoveries) == 1
            door.recover = lambda request: (200, door.enrolled(request))
            clock.ahead_seconds = 61 * 60
            agent.reload()
            await until((places.certs / "next" / "client.crt").exists)
            assert len(door.recoveries) == 2


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_proof_goes_to_this_fleets_hub_alone(fleet: Fleet, places: Places, tmp_path: Path, is_ours: bool) -> None:
    door = Door(fleet, recover=pending)
    with listening(door, tmp_path / "server", certified_by=fleet if is_ours else Fleet()) as door:
        fleet.enroll_by_hand(places, door.port, days=-1)
        (pair,) = Pairs(places).candidates(AGENT)
        chain_pem, key_pem = Pairs(places).contents(pair)
        made = do(MakeKey())
        assert isinstance(made, KeyMade)
        outcome = do(
            AskRecovery(
                fleet=ExpectedFleet(ca_bundle_pem=fleet.bundle_pem, trust_domain=DOMAIN),
                hub_url=door.url,
                anchors_pem=fleet.servers_ca.pem,
                agent_id=AGENT,
                boot_id="boot",
                chain_pem=chain_pem,
                key_pem=key_pem,
                next_key_pem=made.key_pem,
            )
        )
    if is_ours:
        assert isinstance(outcome, RecoveryPending)
    else:
        assert isinstance(outcome, Failed)
        assert outcome.fault is Fault.UNBELIEVABLE
        assert door.received == []


def test_status_without_a_daemon_says_that_an_expired_certificate_is_recovered_by_it(
    fleet: Fleet, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.enroll_by_hand(places, 1, days=-2)
    assert main(["status", "--data-dir", str(places.state)]) == 3
    assert "EXPIRED 2.0 days ago; the daemon asks the hub for a new one" in capsys.readouterr().out
