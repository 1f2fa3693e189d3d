"""Renewal of the certificate over a real connection: in time, with a new key, and without a gap."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from agent_client.turns import Turn
from protocol.desired import CertificateTerms
from protocol.elements import Frame
from protocol.enumerations import CommandOutcome, DesiredName, Lane
from protocol.frames import (
    CertificateReply,
    CertificateRequest,
    CommandAccepted,
    CommandOutput,
    CommandQuery,
    CommandResult,
    CommandState,
    Desired,
    DesiredApplied,
    Error,
    Goodbye,
    Heartbeat,
    Hello,
    Metrics,
)
from tests.agent_client.alive import alive, until
from tests.agent_client.fleet import AGENT, Fleet, Signer, authority, described_chain, own_id
from tests.agent_client.hub import Hub, Peer, running

QUESTIONS = 40
pytestmark = pytest.mark.usefixtures("hurried")


def certificate_files(places: Places) -> set[str]:
    return {str(path.relative_to(places.certs)) for path in places.certs.rglob("*") if path.is_file()}


def serial_on_disk(places: Places) -> str:
    """Return the serial of the pair in use, once the TLS library has taken certificate and key together."""
    (pair,) = Pairs(places).candidates(AGENT)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pair.certificate, pair.key)
    return f"{x509.load_pem_x509_certificates(pair.certificate.read_bytes())[0].serial_number:X}"


def put_next(fleet: Fleet, places: Places) -> None:
    """Leave a next pair as a renewal does whose second connection broke."""
    key = Ed25519PrivateKey.generate()
    Pairs(places).begin(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    Pairs(places).complete(described_chain(fleet.client_certificate(key.public_key())))


async def ended(peer: Peer) -> None:
    async with asyncio.timeout(20), peer.news:
        await peer.news.wait_for(lambda: peer.closed)


async def test_a_certificate_is_renewed_in_time_and_the_new_session_is_welcomed_before_the_old_one_ends(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub(certify=fleet.certify)) as hub:
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        key_before = (places.certs / "client.key").read_bytes()
        async with alive(places) as agent:
            first, second = await hub.peer(1), await hub.peer(2)
            await ended(first)
            await second.first(Heartbeat)
            assert agent.status().link == "connected"
            assert agent.status().session_id == "session-2"
            assert agent.status().certificate.renewal == "scheduled"
            assert (agent.status().certificate.renew_at_ms or 0) > agent._clock.now_ms() + 15 * 86_400_000
        assert hub.story.index(("welcome", 2)) < hub.story.index(("ended", 1))
        assert first.all(Goodbye) == []
        assert first.connection.close_code == 1000
        assert first.serial != second.serial
    assert serial_on_disk(places).lstrip("0") == second.serial.lstrip("0")
    assert (places.certs / "client.key").read_bytes() != key_before
    assert certificate_files(places) == {"client.key", "client.crt", "ca-bundle.crt"}
    assert {path.stat().st_mode & 0o777 for path in places.certs.rglob("*") if path.is_file()} == {0o600}


async def test_a_young_certificate_is_left_alone(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub(certify=fleet.certify, heartbeat_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.several(2, Heartbeat)
            assert peer.all(CertificateRequest) == []
            wait_days = ((agent.status().certificate.renew_at_ms or 0) - agent._clock.now_ms()) / 86_400_000
            assert 17.9 < wait_days < 22.1


async def test_jobs_and_streams_go_on_through_a_change_of_certificate(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        async with alive(places):
            first = await hub.peer(1)
            gate = tmp_path / "gate"
            script = f"echo before; while [ ! -e {gate} ]; do sleep 0.05; done; echo after"
            await first.send(fleet.command(fleet.envelope(own_id("job-1"), ["sh", "-c", script])))
            await first.first(CommandOutput)
            await first.send(fleet.certify(await first.first(CertificateRequest)))
            second = await hub.peer(2)
            await ended(first)
            gate.touch()
            result = await second.first(CommandResult)
            live = await second.several(2, Metrics, lambda frame: frame.lane is Lane.LIVE)
    assert (result.status, result.exit_code) == (CommandOutcome.COMPLETED, 0)
    assert hub.output[own_id("job-1"), "stdout"] == b"before\nafter\n"
    assert len(first.all(CommandResult) + second.all(CommandResult)) == 1
    assert live
    sequences = [seq for lane, _, seq in hub.stored if lane == "live"]
    assert sorted(sequences) == list(range(1, len(sequences) + 1))
    moments = {sample.ts for key, sample in hub.stored.items() if key[0] == "backfill"}
    assert len(moments) <= 1, "the samples before the first session"


async def test_what_the_hub_says_on_the_old_socket_at_the_last_moment_is_heard_and_in_its_order(
    places: Places, tmp_path: Path
) -> None:
    fleet, newcomer = Fleet(), Signer()
    newer = fleet.trust(version=2, signers=[newcomer.as_trusted()])

    async def speak_to_the_old_one(peer: Peer) -> None:
        if len(hub.peers) == 2:
            offer = Desired(name=DesiredName.TRUST, hash="t2", body=msgspec.to_builtins(newer, str_keys=True))
            await hub.peers[0].send(offer)
            await hub.peers[0].send(fleet.command(fleet.envelope(own_id("job-1"), ["echo", "once"]), newcomer))
            for number in range(QUESTIONS):
                await hub.peers[0].send(CommandQuery(command_id=f"unknown-{number}"))

    hub = Hub(certify=fleet.certify, with_welcome=speak_to_the_old_one)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        async with alive(places) as agent:
            first, second = await hub.peer(1), await hub.peer(2)
            result = await second.first(CommandResult)
            await ended(first)
            await until(lambda: len(first.all(CommandState) + second.all(CommandState)) == QUESTIONS)
            assert agent.status().trust_version == 2
    assert result.status is CommandOutcome.COMPLETED
    assert hub.output[own_id("job-1"), "stdout"] == b"once\n"
    assert len(first.all(CommandAccepted) + second.all(CommandAccepted)) == 1
    answered = [state.command_id for state in first.all(CommandState) + second.all(CommandState)]
    assert answered == [f"unknown-{number}" for number in range(QUESTIONS)]
    assert [applied.hash for applied in first.all(DesiredApplied) + second.all(DesiredApplied)] == ["t2"]


@pytest.mark.parametrize(
    ("certify", "problem"),
    [
        (lambda _, request: Error(code="forbidden", message="not now", reply_to=request.request_id), "not now"),
        (lambda fleet, request: fleet.certify(request, agent_id="agent-9"), "not for this agent"),
        (lambda fleet, request: fleet.certify(request, days=-1), "not valid now"),
        (lambda _, request: Fleet().certify(request), "does not chain"),
        (
            lambda fleet, request: CertificateReply(
                request_id=request.request_id, certificate_pem=fleet.client_certificate(Signer().key.public_key())
            ),
            "not for this agent's key",
        ),
        (lambda _, request: CertificateReply(request_id=request.request_id, certificate_pem="x"), "cannot be read"),
    ],
)
async def test_a_certificate_that_does_not_hold_changes_nothing_and_another_key_is_tried_later(
    fleet: Fleet,
    places: Places,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certify: Callable[[Fleet, CertificateRequest], Frame],
    problem: str,
) -> None:
    told: list[str] = []

    def retry_seconds(*_: object) -> float:
        told.append(agent.status().certificate.problem)
        return 0.2

    def answer(request: CertificateRequest) -> Frame:
        is_first = len(hub.peers[0].all(CertificateRequest)) == 1
        return certify(fleet, request) if is_first else fleet.certify(request)

    monkeypatch.setattr("agent_client.renewal.renewal.retry_seconds", retry_seconds)

    async with running(fleet, tmp_path, Hub(certify=answer)) as hub:
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await hub.peer(2)
            assert problem in told[0]
            one, other = first.all(CertificateRequest)
            assert one.csr_pem != other.csr_pem
            await ended(first)


async def test_a_hub_that_is_busy_is_asked_again_for_the_same_key(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_client.renewal.renewal.retry_seconds", lambda *_: 0.2)

    def answer(request: CertificateRequest) -> Frame:
        is_first = len(hub.peers[0].all(CertificateRequest)) == 1
        busy = Error(code="rate_limited", message="later", reply_to=request.request_id)
        return busy if is_first else fleet.certify(request)

    async with running(fleet, tmp_path, Hub(certify=answer)) as hub:
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        async with alive(places):
            await hub.peer(2)
            one, other = hub.peers[0].all(CertificateRequest)
            assert one.csr_pem == other.csr_pem


async def test_a_lost_answer_is_asked_for_again_with_the_same_key_also_in_the_next_life(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        requests = []
        for number in (1, 2):
            async with alive(places):
                requests.append(await (await hub.peer(number)).first(CertificateRequest))
    assert requests[0].csr_pem == requests[1].csr_pem
    assert certificate_files(places) == {"client.key", "client.crt", "ca-bundle.crt", "next/client.key"}


async def test_a_new_certificate_that_the_hub_does_not_take_leaves_the_old_session_alone(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    unknown_to_tls = authority("retired agents", fleet.root)
    hub = Hub(certify=lambda request: fleet.certify(request, issuer=unknown_to_tls), heartbeat_seconds=1)
    async with running(fleet, tmp_path, hub, client_root=fleet.agents_ca.pem):
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await until(lambda: agent.status().certificate.renewal == "failed")
            beats = len(first.all(Heartbeat))
            await first.several(beats + 1, Heartbeat)
            assert len(hub.peers) == 1
            assert agent.status().link == "connected"
    assert certificate_files(places) == {"client.key", "client.crt", "ca-bundle.crt"}


async def test_after_a_crash_the_older_certificate_is_tried_where_the_hub_does_not_take_the_newer(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    forgotten = fleet.client_certificate(key.public_key(), issuer=authority("forgotten agents", fleet.root))
    async with running(fleet, tmp_path, Hub(), client_root=fleet.agents_ca.pem) as hub:
        fleet.enroll_by_hand(places, hub.port, backoff_initial_seconds=900.0, backoff_max_seconds=900.0)
        Pairs(places).begin(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
        Pairs(places).complete(described_chain(forgotten))
        async with alive(places) as agent:
            await (await hub.peer()).first(Heartbeat)
            assert agent.status().link == "connected"
    assert certificate_files(places) == {"client.key", "client.crt", "ca-bundle.crt"}


async def test_where_the_hub_ends_the_older_session_the_next_certificate_is_tried_before_the_slow_lane(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            first = await hub.peer(1)
            await first.first(Heartbeat)
            put_next(fleet, places)
            await first.connection.close(4401, "the agent has a newer certificate than this one")
            second = await hub.peer(2)
            await second.first(Heartbeat)
            assert second.serial != first.serial
    assert serial_on_disk(places).lstrip("0") == second.serial.lstrip("0")


async def test_where_the_hub_ends_the_newer_session_the_older_certificate_is_tried_before_the_slow_lane(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    """As after the hub's database was put back: it let the newer in, and then knew the older alone."""
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        put_next(fleet, places)
        with Turn(places).taken():  # so the newer does not move up
            async with alive(places):
                newer = await hub.peer(1)
                await newer.first(Heartbeat)
                hub.welcomed[:] = [newer.serial, "another"]
                await newer.connection.close(4401, "this hub does not know the agent")
                older = await hub.peer(3)
                await older.first(Heartbeat)
                assert hub.peers[1].serial == newer.serial != older.serial


async def test_an_agent_leaves_an_issuer_that_the_hub_names_another_for(places: Places, tmp_path: Path) -> None:
    fleet = Fleet()
    following = authority("next agents", fleet.root)
    name = hashlib.sha256(ssl.PEM_cert_to_DER_cert(following.pem)).hexdigest()
    terms = msgspec.to_builtins(CertificateTerms(issuer_sha256=name, over_sec=0), str_keys=True)
    hub = Hub(certify=lambda request: fleet.certify(request, issuer=following))
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            first = await hub.peer(1)
            await first.first(Heartbeat)
            await first.send(Desired(name=DesiredName.CERTIFICATE, hash="c1", body=terms))
            await first.first(DesiredApplied)
            second = await hub.peer(2)
            assert second.all(Hello)[0].hashes.certificate == "c1"
            await ended(first)
        assert len(hub.peers) == 2
    (pair,) = Pairs(places).candidates(AGENT)
    assert pair.facts.issuer_sha256 == name
