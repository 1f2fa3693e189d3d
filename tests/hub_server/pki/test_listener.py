"""Real handshakes: who gets in over TLS, and as whom."""

import re
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub_server.clock import SystemClock
from hub_server.pki import certificates
from hub_server.pki.authority import Authority
from hub_server.pki.engine import Lifetimes
from hub_server.pki.listener import AgentsTls, peer_of
from hub_server.storage.engine import Database
from protocol.enumerations import AuthorityUse
from protocol.identity import AgentIdentity, MalformedIdentity
from tests.authorities import authority_in, authority_on
from tests.certificates import LeafKey, csr_of, ed25519_key, p256_key, write_client
from tests.clocks import FakeClock

QUICK = Lifetimes(issuing=timedelta(days=3650), agent_certificate=timedelta(days=365), overlap=timedelta(days=1))
IDENTITY = AgentIdentity("jtnt", "org-1", "agent-1")
DEADLINE_SECONDS = 60.0
Shown = tuple[dict[str, Any] | None, bytes | None]
"""A client's certificate as the ssl module describes it, and in DER."""


class Hub:
    """A TLS server on a real socket that greets whom it lets in."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def meet(self, context: ssl.SSLContext, name: str = "localhost") -> "Meeting":
        """Let one client connect that expects the hub to be `name`; return how both sides saw it."""
        with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as hub:
            listening.settimeout(DEADLINE_SECONDS)
            greeting = hub.submit(self._greet, listening)
            heard, client_error, has_ticket = _visit(listening.getsockname(), context, name)
            shown, error = greeting.result(DEADLINE_SECONDS)
        return Meeting(heard, client_error, has_ticket, shown, error)

    def _greet(self, listening: socket.socket) -> tuple[Shown, str]:
        accepted, _ = listening.accept()
        accepted.settimeout(DEADLINE_SECONDS)
        with accepted:
            try:
                with self._context.wrap_socket(accepted, server_side=True) as connection:
                    connection.sendall(b"welcome")
                    return (connection.getpeercert(), connection.getpeercert(binary_form=True)), ""
            except OSError as error:
                return (None, None), str(error)


class Meeting(NamedTuple):
    heard: bytes
    client_error: str
    has_ticket: bool
    shown: Shown
    error: str


def _visit(address: tuple[str, int], context: ssl.SSLContext, name: str) -> tuple[bytes, str, bool]:
    """In TLS 1.3 a client hears of a refusal at its first read."""
    with socket.create_connection(address, DEADLINE_SECONDS) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name) as connection:
                heard, session = connection.recv(16), connection.session
                return heard, "", session is not None and session.has_ticket
        except OSError as error:
            return b"", str(error), False


@pytest.fixture
def hub(authority: Authority) -> Hub:
    return Hub(AgentsTls(authority, ["hub.example", "192.0.2.7"]).current())


def client(authority: Authority, identity_file: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=authority.root_pem)
    if identity_file is not None:
        context.load_cert_chain(identity_file)
    return context


def refusal(hub: Hub, context: ssl.SSLContext) -> str:
    """Return why the hub did not let the client in."""
    meeting = hub.meet(context)
    assert meeting.error
    assert not meeting.heard
    return meeting.error


def end_of(pem: str) -> str:
    return "-----END CERTIFICATE-----\n".join([pem.split("-----END CERTIFICATE-----\n")[0], ""])


@pytest.mark.parametrize("make_key", [ed25519_key, p256_key])
@pytest.mark.parametrize("sends_leaf_alone", [False, True])
def test_an_agent_is_known_by_its_certificate(
    hub: Hub, authority: Authority, tmp_path: Path, make_key: Callable[[], LeafKey], sends_leaf_alone: bool
) -> None:
    key = make_key()
    issued = authority.issue_agent_certificate(IDENTITY, csr_of(key))
    chain = end_of(issued.pem) if sends_leaf_alone else issued.pem
    meeting = hub.meet(client(authority, write_client(tmp_path, "agent", chain, key)))
    assert meeting.heard == b"welcome"
    peer = peer_of(*meeting.shown)
    assert peer is not None
    assert peer.identity == IDENTITY
    assert peer.serial == issued.serial
    assert peer.public_key_sha256 == issued.public_key_sha256


def test_without_a_certificate_one_is_nobody(hub: Hub, authority: Authority) -> None:
    meeting = hub.meet(client(authority))
    assert meeting.heard == b"welcome"
    assert peer_of(*meeting.shown) is None


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "hub.example", "192.0.2.7", socket.gethostname()])
def test_the_hub_proves_each_of_its_names(hub: Hub, authority: Authority, name: str) -> None:
    assert hub.meet(client(authority), name).heard == b"welcome"


def test_the_hub_proves_no_other_name(hub: Hub, authority: Authority) -> None:
    assert "evil.example" in hub.meet(client(authority), "evil.example").client_error


def test_tls_1_2_is_refused(hub: Hub, authority: Authority) -> None:
    context = client(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "unsupported protocol" in refusal(hub, context)


def test_no_session_can_be_resumed(hub: Hub, authority: Authority) -> None:
    assert not hub.meet(client(authority)).has_ticket


async def test_a_certificate_of_another_hub_is_refused(hub: Hub, authority: Authority, tmp_path: Path) -> None:
    foreign = await authority_in(tmp_path / "foreign")
    key = ed25519_key()
    issued = foreign.issue_agent_certificate(IDENTITY, csr_of(key))
    for chain in (issued.pem, issued.pem + foreign.root_pem, end_of(issued.pem)):
        file = write_client(tmp_path, "foreign", chain, key)
        assert re.search("unable to get local issuer|self-signed", refusal(hub, client(authority, file)))


async def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    clock = FakeClock(SystemClock().now() - timedelta(days=31))
    authority = await authority_in(tmp_path / "past", clock=clock)
    key = ed25519_key()
    issued = authority.issue_agent_certificate(IDENTITY, csr_of(key))
    file = write_client(tmp_path, "expired", issued.pem, key)
    clock.advance(31 * 86400)
    hub = Hub(AgentsTls(authority, []).current())
    assert "certificate has expired" in refusal(hub, client(authority, file))


def test_a_certificate_of_a_server_is_no_client(hub: Hub, authority: Authority) -> None:
    file = authority.server_credentials(["hub.example", "192.0.2.7"]).certificate_path
    assert "unable to get local issuer" in refusal(hub, client(authority, file))


def test_the_servers_ca_cannot_make_an_agent(hub: Hub, authority: Authority, tmp_path: Path) -> None:
    """Its own extended key usage binds it, even where it signs a perfect agent's certificate."""
    _, servers = authority._keyring.issuing(AuthorityUse.SERVERS, SystemClock().now())
    key = ed25519_key()
    leaf = certificates.make_agent(
        servers, key.public_key(), uri=IDENTITY.uri, now=SystemClock().now(), lifetime=timedelta(days=1)
    )
    file = write_client(tmp_path, "misissued", certificates.pem_of(leaf) + servers.pem, key)
    assert "unable to get local issuer" in refusal(hub, client(authority, file))


def test_an_issuing_ca_for_servers_is_no_anchor_even_beside_the_root(
    hub: Hub, authority: Authority, tmp_path: Path
) -> None:
    """A client that sends the whole chain up to the root gains nothing by it."""
    _, servers = authority._keyring.issuing(AuthorityUse.SERVERS, SystemClock().now())
    key = ed25519_key()
    leaf = certificates.make_agent(
        servers, key.public_key(), uri=IDENTITY.uri, now=SystemClock().now(), lifetime=timedelta(days=1)
    )
    chain = certificates.pem_of(leaf) + servers.pem + authority.root_pem
    assert "self-signed" in refusal(hub, client(authority, write_client(tmp_path, "whole", chain, key)))


@pytest.mark.parametrize("chain", ["leaf", "leaf and issuer", "whole"])
async def test_a_retired_ca_lets_nobody_in_though_the_root_signed_it(
    database: Database, tmp_path: Path, chain: str
) -> None:
    clock = FakeClock(SystemClock().now() - timedelta(days=40))
    authority = await authority_on(database, tmp_path / "pki", clock=clock, lifetimes=QUICK)
    key = ed25519_key()
    issued = authority.issue_agent_certificate(IDENTITY, csr_of(key))
    parts = {"leaf": end_of(issued.pem), "leaf and issuer": issued.pem, "whole": issued.pem + authority.root_pem}
    file = write_client(tmp_path, "agent", parts[chain], key)
    tls = AgentsTls(authority, [])
    await authority.rotate(AuthorityUse.AGENTS, actor="test")
    clock.advance(40 * 86400)
    assert tls.refresh()
    assert Hub(tls.current()).meet(client(authority, file)).heard == b"welcome"
    assert await authority.tend()
    assert tls.refresh()
    assert re.search("unable to get|self-signed", refusal(Hub(tls.current()), client(authority, file)))


async def test_the_hubs_certificate_is_renewed_while_old_connections_go_on(database: Database, tmp_path: Path) -> None:
    clock = FakeClock(SystemClock().now() - timedelta(days=61))
    authority = await authority_on(database, tmp_path / "pki", clock=clock)
    tls = AgentsTls(authority, ["hub.example"])
    before, first = tls.current(), (tmp_path / "pki" / "server.pem").read_bytes()
    clock.advance(59 * 86400)
    assert not tls.refresh()
    assert tls.current() is before
    clock.advance(2 * 86400)
    assert tls.refresh()
    assert tls.current() is not before
    assert (tmp_path / "pki" / "server.pem").read_bytes() != first
    for context in (before, tls.current()):
        assert Hub(context).meet(client(authority), "hub.example").heard == b"welcome"


def test_a_leaf_cannot_act_as_a_ca(hub: Hub, authority: Authority, tmp_path: Path) -> None:
    middle, key, now = p256_key(), ed25519_key(), SystemClock().now()
    issued = authority.issue_agent_certificate(IDENTITY, csr_of(middle))
    parent = x509.load_pem_x509_certificate(issued.pem.encode())
    victim = AgentIdentity("jtnt", "org-1", "victim")
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "JTNT agent")]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(middle.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(victim.uri)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(middle, hashes.SHA256())
    )
    file = write_client(tmp_path, "forged", certificates.pem_of(forged) + issued.pem, key)
    assert "invalid CA certificate" in refusal(hub, client(authority, file))


def test_a_certificate_that_names_more_than_one_agent_is_nobodys() -> None:
    two = (("URI", IDENTITY.uri), ("URI", IDENTITY.uri + "2"))
    for names in (two, (("DNS", "localhost"), ("URI", IDENTITY.uri)), (), (("URI", "https://example.com"),)):
        with pytest.raises(MalformedIdentity):
            peer_of({"subjectAltName": names, "serialNumber": "01"}, b"not looked at")


def test_a_certificate_whose_key_cannot_be_read_is_nobodys() -> None:
    with pytest.raises(MalformedIdentity, match="key"):
        peer_of({"subjectAltName": (("URI", IDENTITY.uri),), "serialNumber": "01"}, b"no certificate")
