"""Agents whose certificate ran out come back by a proof of their old key, and a person's yes."""

import asyncio
import base64
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from sqlmodel import col

from hub_server.errors import (
    Forbidden,
    HubError,
    InvalidRequest,
    KeyInUse,
    NotFound,
    RateLimited,
    Unauthenticated,
)
from hub_server.pki.certificates import key_sha256_of
from hub_server.pki.model import Standing
from hub_server.pki.tables import CertificateRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enrollment import EnrollPending, EnrollReply, RecoverRequest, recovery_statement
from protocol.enumerations import AgentTrust, ApprovalKind, ApprovalState
from protocol.identity import AgentIdentity
from protocol.joining import ApprovalsDecide, ApprovalView, TokensCreate
from tests.certificates import LeafKey, csr_of, ed25519_key, p256_key
from tests.clocks import FakeClock
from tests.hub_server.enrollment.conftest import HOME, Desk, recovery_of, request_of, signature_by

MONTH_SECONDS = 40 * 86400
Changes = dict[str, Any]


class Lost(NamedTuple):
    """A machine whose certificate has expired."""

    agent_id: str
    certificate_pem: str
    key: LeafKey
    address: str = "192.0.2.44"


async def lost(desk: Desk, key: LeafKey | None = None) -> Lost:
    old = key or ed25519_key()
    token = await desk.token(TokensCreate(site="berlin", tags=["web"]))
    reply = await desk.enrolled(request_of(token.token_text, csr_of(old)))
    desk.clock.advance(MONTH_SECONDS)
    return Lost(reply.agent_id, reply.client_cert_pem, old)


async def approve(desk: Desk, approval: ApprovalView) -> None:
    await desk.enrollment.approve(desk.principal, ApprovalsDecide(approval_id=approval.id))


async def recover(desk: Desk, request: RecoverRequest, address: str = "192.0.2.44") -> EnrollReply | EnrollPending:
    return await desk.enrollment.recover(request, address)


async def refused(
    desk: Desk, request: RecoverRequest, kind: type[HubError], said: str, path: str | None = None
) -> None:
    before = await desk.counts()
    with pytest.raises(kind, match=said) as error:
        await recover(desk, request)
    assert path is None or error.value.path == path
    assert (await desk.counts(), await desk.waiting()) == (before, [])


@pytest.mark.parametrize("make", [ed25519_key, p256_key])
async def test_an_agent_comes_back_as_who_it_was(desk: Desk, make: Any) -> None:
    machine, new = await lost(desk, make()), make()
    request = recovery_of(desk, machine.certificate_pem, machine.key, new)
    pending = await recover(desk, request)
    assert isinstance(pending, EnrollPending)
    assert pending.agent_id == machine.agent_id
    (approval,) = await desk.waiting()
    assert (approval.kind, approval.agent_id, approval.hostname, approval.address, approval.site, approval.tags) == (
        ApprovalKind.RECOVER,
        machine.agent_id,
        "web-01",
        "192.0.2.44",
        "berlin",
        ["web"],
    )
    assert approval.fingerprint == desk.certificates.key_sha256_of(request.csr_pem).hex()
    assert (await desk.counts())["certificates"] == 1
    await approve(desk, approval)
    reply = await recover(desk, request)
    assert isinstance(reply, EnrollReply)
    assert reply.agent_id == machine.agent_id
    assert reply.trust == desk.authority.trust
    assert (await desk.counts())["certificates"] == 2
    assert (await desk.counts())["agents"] == 1
    expires_at = desk.certificates.expires_at(machine.agent_id)
    assert expires_at is not None
    assert expires_at > desk.clock.now()
    assert (await desk.audited())[-3:] == [
        (f"agent:{machine.agent_id}", "approvals:request", f"approval:{approval.id}"),
        ("user:ada", "approvals:approve", f"approval:{approval.id}"),
        (f"agent:{machine.agent_id}", "agents:recover", f"agent:{machine.agent_id}"),
    ]


async def test_each_poll_is_proven_anew_and_a_lost_answer_is_repeated(desk: Desk, clock: FakeClock) -> None:
    machine, new = await lost(desk), ed25519_key()

    def request() -> RecoverRequest:
        return recovery_of(desk, machine.certificate_pem, machine.key, new)

    await recover(desk, request())
    await approve(desk, (await desk.waiting())[0])
    clock.advance(900)
    replies = await asyncio.gather(*(recover(desk, request()) for _ in range(5)))
    clock.advance(900)
    replies.append(await recover(desk, request()))
    certificates = {reply.client_cert_pem for reply in replies if isinstance(reply, EnrollReply)}
    assert len(replies) == 6
    assert len(certificates) == 1
    assert (await desk.counts())["certificates"] == 2


async def test_once_the_new_certificate_was_seen_the_old_key_opens_nothing(desk: Desk, organisation_id: str) -> None:
    machine, new = await lost(desk), ed25519_key()
    request = recovery_of(desk, machine.certificate_pem, machine.key, new)
    await recover(desk, request)
    await approve(desk, (await desk.waiting())[0])
    reply = await recover(desk, request)
    assert isinstance(reply, EnrollReply)
    serial = await serial_of_newest(desk)
    key = key_sha256_of(new.public_key())
    assert desk.certificates.standing(serial, machine.agent_id, key) is Standing.CURRENT
    await desk.certificates.seen(serial, AgentIdentity("jtnt", organisation_id, machine.agent_id))
    await refused(desk, request, Unauthenticated, "counts no more", "$.certificate_pem")


async def test_an_agent_may_need_it_twice_in_its_life(desk: Desk, clock: FakeClock) -> None:
    machine = await lost(desk)
    pem, old = machine.certificate_pem, machine.key
    for _ in range(2):
        new = ed25519_key()
        await recover(desk, recovery_of(desk, pem, old, new))
        await approve(desk, (await desk.waiting())[0])
        reply = await recover(desk, recovery_of(desk, pem, old, new))
        assert isinstance(reply, EnrollReply)
        clock.advance(MONTH_SECONDS)
        pem, old = reply.client_cert_pem, new
    assert (await desk.counts())["certificates"] == 3


async def test_a_new_certificate_that_expired_unfetched_is_asked_for_again(desk: Desk, clock: FakeClock) -> None:
    machine, new = await lost(desk), ed25519_key()
    await recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, new))
    await approve(desk, (await desk.waiting())[0])
    await recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, new))
    clock.advance(MONTH_SECONDS)
    assert isinstance(await recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, new)), EnrollPending)


async def test_nobody_decides_for_a_week_and_the_machine_waits_anew(desk: Desk, clock: FakeClock) -> None:
    machine, new = await lost(desk), ed25519_key()
    await recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, new))
    (first,) = await desk.waiting()
    clock.advance(7 * 86400)
    assert not await desk.waiting()
    await recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, new))
    (second,) = await desk.waiting()
    assert second.id != first.id
    with pytest.raises(NotFound):
        await approve(desk, first)


async def test_a_rejected_machine_hears_it(desk: Desk) -> None:
    machine, new = await lost(desk), ed25519_key()
    request = recovery_of(desk, machine.certificate_pem, machine.key, new)
    await recover(desk, request)
    (approval,) = await desk.waiting()
    await desk.enrollment.reject(desk.principal, ApprovalsDecide(approval_id=approval.id))
    for _ in range(20):
        await refused(desk, request, Forbidden, "turned away by a person")
    assert [each.state for each in await desk.waiting(state=None)] == [ApprovalState.REJECTED]


async def test_a_proof_by_another_key_is_refused(desk: Desk) -> None:
    machine, new = await lost(desk), ed25519_key()
    good = recovery_of(desk, machine.certificate_pem, machine.key, new)
    other = recovery_of(desk, machine.certificate_pem, ed25519_key(), new)
    by_new_key = recovery_of(desk, machine.certificate_pem, new, new)
    for signature in (other.signature, by_new_key.signature, "", "!", "AAAA", base64.b64encode(bytes(64)).decode()):
        wrong = recovery_of(desk, machine.certificate_pem, machine.key, new, signature=signature)
        await refused(desk, wrong, Unauthenticated, "not of the certificate's key", "$.signature")
        desk.clock.advance(601)
    assert isinstance(await recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, new)), EnrollPending)
    assert good.csr_pem


@pytest.mark.parametrize("what", ["csr_pem", "signed_at_ms", "trust domain"])
async def test_whatever_the_proof_covers_cannot_be_changed(desk: Desk, what: str) -> None:
    machine, new = await lost(desk), ed25519_key()
    good = recovery_of(desk, machine.certificate_pem, machine.key, new)
    changes: dict[str, Changes] = {
        "csr_pem": {"csr_pem": csr_of(ed25519_key())},
        "signed_at_ms": {"signed_at_ms": good.signed_at_ms + 1},
        "trust domain": {
            "signature": signature_by(machine.key, recovery_statement("other", good.csr_pem, good.signed_at_ms))
        },
    }
    fields = {name: getattr(good, name) for name in good.__struct_fields__} | changes[what]
    await refused(desk, RecoverRequest(**fields), Unauthenticated, "not of the certificate's key", "$.signature")


async def test_a_proof_of_another_time_is_refused(desk: Desk) -> None:
    machine = await lost(desk)
    now_ms = int(desk.clock.now().timestamp() * 1000)
    for at_ms in (0, now_ms - 600_001, now_ms + 600_001, 2**53):
        csr_pem = csr_of(ed25519_key())
        signature = signature_by(machine.key, recovery_statement("jtnt", csr_pem, at_ms))
        request = recovery_of(
            desk,
            machine.certificate_pem,
            machine.key,
            ed25519_key(),
            csr_pem=csr_pem,
            signed_at_ms=at_ms,
            signature=signature,
        )
        await refused(desk, request, Unauthenticated, "set the machine's clock", "$.signed_at_ms")


async def test_what_is_no_certificate_of_this_hub_is_refused(desk: Desk) -> None:
    machine = await lost(desk)
    pem = machine.certificate_pem
    leaf, issuing = (f"{part}-----END CERTIFICATE-----\n" for part in pem.split("-----END CERTIFICATE-----\n")[:2])
    for shown, said in (
        ("", "no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate in PEM"),
        (issuing, "counts no more"),
        (desk.authority.root_pem, "counts no more"),
    ):
        request = recovery_of(desk, shown, machine.key, ed25519_key())
        await refused(desk, request, Unauthenticated, said, "$.certificate_pem")
    assert isinstance(await recover(desk, recovery_of(desk, leaf, machine.key, ed25519_key())), EnrollPending)


async def test_a_forged_certificate_with_a_known_serial_is_refused(desk: Desk) -> None:
    machine = await lost(desk)
    forged, key = forged_like(machine.certificate_pem)
    await refused(desk, recovery_of(desk, forged, key, ed25519_key()), Unauthenticated, "knows no such certificate")


async def test_a_revoked_agent_does_not_come_back(desk: Desk, organisation_id: str) -> None:
    machine = await lost(desk)
    async with desk.database.write(EVERY_ORGANISATION) as connection:
        await desk.certificates.revoke_agent(connection, organisation_id, machine.agent_id)
    request = recovery_of(desk, machine.certificate_pem, machine.key, ed25519_key())
    await refused(desk, request, Unauthenticated, "counts no more")


@pytest.mark.parametrize("trust", [AgentTrust.QUARANTINED, AgentTrust.REVOKED])
async def test_an_agent_that_is_not_trusted_does_not_come_back(desk: Desk, trust: AgentTrust) -> None:
    machine = await lost(desk)
    await desk.distrust(machine.agent_id, trust)
    request = recovery_of(desk, machine.certificate_pem, machine.key, ed25519_key())
    await refused(desk, request, Forbidden, f"this agent is {trust}")


async def test_an_approved_agent_that_lost_its_trust_gets_nothing(desk: Desk) -> None:
    machine = await lost(desk)
    request = recovery_of(desk, machine.certificate_pem, machine.key, ed25519_key())
    await recover(desk, request)
    await approve(desk, (await desk.waiting())[0])
    await desk.distrust(machine.agent_id, AgentTrust.QUARANTINED)
    await refused(desk, request, Forbidden, "quarantined")


async def test_the_new_key_must_be_new(desk: Desk) -> None:
    machine = await lost(desk)
    same = recovery_of(desk, machine.certificate_pem, machine.key, machine.key)
    await refused(desk, same, InvalidRequest, "needs a new key", "$.csr_pem")
    csr_pem = "no csr"
    at = int(desk.clock.now().timestamp() * 1000)
    no_csr = recovery_of(
        desk,
        machine.certificate_pem,
        machine.key,
        ed25519_key(),
        csr_pem=csr_pem,
        signature=signature_by(machine.key, recovery_statement("jtnt", csr_pem, at)),
    )
    await refused(desk, no_csr, InvalidRequest, "no certificate request", "$.csr_pem")


async def test_the_new_key_must_not_be_another_agents(desk: Desk) -> None:
    machine, other = await lost(desk), ed25519_key()
    await desk.enrolled(request_of((await desk.token()).token_text, csr_of(other)))
    request = recovery_of(desk, machine.certificate_pem, machine.key, other)
    await recover(desk, request)
    await approve(desk, (await desk.waiting())[0])
    await refused(desk, request, KeyInUse, "another agent")


async def test_an_old_key_takes_no_more_than_three_places(desk: Desk) -> None:
    machine = await lost(desk)
    outcomes = await asyncio.gather(
        *(
            recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, ed25519_key()), f"192.0.2.{number}")
            for number in range(8)
        ),
        return_exceptions=True,
    )
    limited = [outcome for outcome in outcomes if isinstance(outcome, RateLimited)]
    assert {outcome.retry_after_seconds for outcome in limited} == {900}
    assert (len(limited), len(await desk.waiting())) == (5, 3)


async def test_whoever_guesses_is_shut_out_and_polling_is_no_guess(desk: Desk, clock: FakeClock) -> None:
    machine, new = await lost(desk), ed25519_key()
    good = recovery_of(desk, machine.certificate_pem, machine.key, new)
    for _ in range(30):
        assert isinstance(await recover(desk, good), EnrollPending)
    bad = recovery_of(desk, machine.certificate_pem, ed25519_key(), new)
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            await recover(desk, bad)
        clock.advance(1)
    with pytest.raises(RateLimited):
        await recover(desk, recovery_of(desk, machine.certificate_pem, machine.key, new))
    token = await desk.token()
    with pytest.raises(RateLimited):
        await desk.enrollment.enroll(request_of(token.token_text), "192.0.2.44")
    await desk.enrollment.enroll(request_of(token.token_text), HOME)


async def test_a_certificate_that_is_still_good_may_be_recovered_too(desk: Desk) -> None:
    """The key proves as much as it does on the socket, where no person is asked."""
    token, old = await desk.token(), ed25519_key()
    reply = await desk.enrolled(request_of(token.token_text, csr_of(old)))
    desk.clock.advance(timedelta(days=1).total_seconds())
    assert isinstance(await recover(desk, recovery_of(desk, reply.client_cert_pem, old, ed25519_key())), EnrollPending)


async def test_a_hub_that_recovers_nobody_says_so(desk_without_recovery: Desk) -> None:
    machine = await lost(desk_without_recovery)
    request = recovery_of(desk_without_recovery, machine.certificate_pem, machine.key, ed25519_key())
    await refused(desk_without_recovery, request, Forbidden, "enrollment.recovery is off")


async def serial_of_newest(desk: Desk) -> str:
    newest = col(CertificateRow.not_before).desc()
    async with desk.database.read(EVERY_ORGANISATION) as connection:
        rows = await connection.scalars(select(col(CertificateRow.serial)).order_by(newest))
    return rows.all()[0]


def forged_like(pem: str) -> tuple[str, LeafKey]:
    """Return a self-signed certificate with the serial number and the names of `pem`, and its key."""
    real, key = x509.load_pem_x509_certificate(pem.encode()), p256_key()
    names = real.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    forged = (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(real.issuer)
        .serial_number(real.serial_number)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
        .public_key(key.public_key())
        .add_extension(names.value, critical=False)
        .sign(key, SHA256())
    )
    return forged.public_bytes(Encoding.PEM).decode(), key
