"""Certificates that open no session: the handshake or the first frame says so, and nothing is changed."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.exceptions import InvalidHandshake, InvalidStatus

from hub_server.clock import SystemClock
from hub_server.pki.authority import Authority
from protocol.frames import Refuse
from tests.clocks import FakeClock
from tests.integration.hub import RunningHub
from tests.integration.machine import (
    Identity,
    Key,
    connected,
    tls_with,
)

LONG_AGO = FakeClock(datetime(2026, 1, 5, tzinfo=UTC))


async def test_without_a_certificate_there_is_no_socket(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(hub, tls_with(hub.authority.root_pem)):
            raise AssertionError("let in without a certificate")
    assert refused.value.response.status_code == 401


async def assert_shut_out(hub: RunningHub, tls: ssl.SSLContext) -> None:
    """A certificate that the handshake refuses: TLS 1.3 says so with the client's first read."""
    with pytest.raises((ssl.SSLError, ConnectionError, InvalidHandshake, EOFError)):
        async with connected(hub, tls):
            raise AssertionError("let in with this certificate")


async def test_a_foreign_certificate_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    """Of another authority, for the very name of a known agent."""
    other = Authority.open_or_create(folder / "pki", trust_domain="jtnt", clock=SystemClock())
    key = Key()
    issued = other.issue_agent_certificate(identity.name(), key.csr_pem())
    await assert_shut_out(hub, tls_of(hub, folder, issued.pem, key.pem))


async def test_a_certificate_of_a_public_kind_is_refused(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    context = tls_with(hub.authority.root_pem)
    trustme.CA().issue_cert("agent@example.com").configure_cert(context)
    await assert_shut_out(hub, context)


async def test_a_certificate_that_the_agent_signed_itself_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    await assert_shut_out(
        hub, tls_of(hub, folder, pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    )


async def test_the_hubs_own_certificate_opens_nothing(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    context = tls_with(hub.authority.root_pem, hub.settings.pki_dir / "server.pem", hub.settings.pki_dir / "server.pem")
    await assert_shut_out(hub, context)


async def test_an_expired_certificate_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    key = Key()
    issued = hub.authority_at(LONG_AGO).issue_agent_certificate(identity.name(), key.csr_pem())
    await assert_shut_out(hub, tls_of(hub, folder, issued.pem, key.pem))


async def test_a_certificate_that_was_never_issued_means_enroll_again(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    """Signed by the hub's own authority, for a known agent, yet in no table: a stolen key made it."""
    key = Key()
    issued = hub.authority.issue_agent_certificate(identity.name(), key.csr_pem())
    async with connected(hub, tls_of(hub, folder, issued.pem, key.pem)) as agent:
        refuse = await agent.take(Refuse)
        assert (refuse.code, refuse.action) == (4401, "re_enroll")
        assert (await agent.ended())[0] == 4401


def tls_of(hub: RunningHub, folder: Path, certificate_pem: str, key_pem: bytes) -> ssl.SSLContext:
    (folder / "made.crt").write_text(certificate_pem)
    (folder / "made.key").write_bytes(key_pem)
    return tls_with(hub.authority.root_pem, folder / "made.crt", folder / "made.key")
