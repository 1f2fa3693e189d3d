"""Client certificates as an attacker would make them, also one who holds the hub's own issuing keys."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from hub_server.pki.certificates import SigningCa
from protocol.enumerations import AuthorityUse
from protocol.frames import Refuse, Welcome
from protocol.identity import AgentIdentity
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, connected, hello, tls_with

LeafKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY: Final = timedelta(days=1)
SHUT_OUT: Final = "handshake"
ACCEPTED: Final = "accepted"


async def met(hub: RunningHub, tls: ssl.SSLContext) -> str:
    """Return how the hub met an agent with this certificate: SHUT_OUT, the status or close code, or ACCEPTED."""
    try:
        async with connected(hub, tls) as agent:
            with suppress(ConnectionClosed):
                await agent.send(hello())
            answer = await agent.inbox.take(lambda frame: isinstance(frame, Refuse | Welcome))
            return str(answer.code) if isinstance(answer, Refuse) else ACCEPTED
    except InvalidStatus as refused:
        return str(refused.response.status_code)
    except (ssl.SSLError, ConnectionError, InvalidHandshake, EOFError):
        return SHUT_OUT


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a forged certificate says; by default what the true one of an agent does."""

    names: Sequence[x509.GeneralName]
    issuer: SigningCa
    begins: datetime
    ends: datetime
    usage: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    is_ca: bool = False
    serial: int | None = None
    further: Sequence[x509.Extension[Any]] = ()


class Forger:
    """Holds the hub's own CA keys and knows an agent that is enrolled and trusted."""

    def __init__(self, hub: RunningHub, identity: Identity, folder: Path) -> None:
        self._hub = hub
        self._folder = folder
        self._numbers = itertools.count()
        self._now = datetime.now(UTC)
        keyring = hub.authority._keyring
        self.name: Final = identity.name()
        self.agents: Final = keyring.issuing(AuthorityUse.AGENTS, self._now)[1]
        self.servers: Final = keyring.issuing(AuthorityUse.SERVERS, self._now)[1]
        assert keyring.root_key is not None
        self.root: Final = SigningCa(keyring.root, keyring.root_key)
        self._true = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
        self._true_files: Final = identity.certificate, identity.key

    def same_serial(self) -> ssl.SSLContext:
        """The name and the serial number of the true certificate, with a key of the forger's own."""
        return self._forged(serial=self._true.serial_number)

    def cases(self) -> Mapping[str, tuple[Callable[[], ssl.SSLContext], str]]:
        """Return what is tried: words → how its client is made, and how the hub meets it."""
        return {**self._strangers(), **self._wrong_chains(), **self._wrong_leaves(), **self._wrong_names()}

    def true(self) -> ssl.SSLContext:
        return tls_with(self._hub.authority.root_pem, *self._true_files)

    def _strangers(self) -> Mapping[str, tuple[Callable[[], ssl.SSLContext], str]]:
        return {
            "no certificate": (lambda: tls_with(self._hub.authority.root_pem), "401"),
            "signed by itself": (lambda: self._leaf_of(self._itself()), SHUT_OUT),
            "of another authority": (self._of_a_public_kind, SHUT_OUT),
            "of another authority with the hub's own names": (lambda: self._leaf_of(self._namesake()), SHUT_OUT),
            "TLS 1.2 with the true certificate": (self._old_tls, SHUT_OUT),
            "TLS 1.2 without a certificate": (lambda: self._old(tls_with(self._hub.authority.root_pem)), SHUT_OUT),
        }

    def _wrong_chains(self) -> Mapping[str, tuple[Callable[[], ssl.SSLContext], str]]:
        return {
            "of the servers' CA": (lambda: self._leaf_of(self.servers), SHUT_OUT),
            "of the root itself": (lambda: self._leaf_of(self.root), SHUT_OUT),
            "of a CA that the root signed and the trust document does not name": (
                lambda: self._leaf_of(self._issuing(self.root, path_length=0)),
                SHUT_OUT,
            ),
            "of a CA below the agents' CA, whose path length forbids it": (
                lambda: self._leaf_of(self._issuing(self.agents, path_length=0)),
                SHUT_OUT,
            ),
            "of an agent's certificate used as a CA": (lambda: self._leaf_of(self._agent_as_ca()), SHUT_OUT),
            "the hub's own server certificate": (self._of_the_hub, SHUT_OUT),
            "the agents' CA itself": (lambda: self._shown(self.agents.certificate, self.agents.key), SHUT_OUT),
            "the root itself": (lambda: self._shown(self.root.certificate, self.root.key), SHUT_OUT),
        }

    def _wrong_leaves(self) -> Mapping[str, tuple[Callable[[], ssl.SSLContext], str]]:
        server, any_use = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        critical = x509.Extension(unknown.oid, critical=True, value=unknown)
        return {
            "expired": (lambda: self._forged(begins=self._now - 3 * DAY, ends=self._now - DAY), SHUT_OUT),
            "not valid yet": (lambda: self._forged(begins=self._now + DAY, ends=self._now + 3 * DAY), SHUT_OUT),
            "for servers": (lambda: self._forged(usage=(server,)), SHUT_OUT),
            "for any use": (lambda: self._forged(usage=(any_use,)), SHUT_OUT),
            "for no use in particular": (lambda: self._forged(usage=None), "4401"),
            "a CA in an agent's clothes": (lambda: self._forged(is_ca=True), "4401"),
            "with an extension that nobody knows, critical": (lambda: self._forged(further=(critical,)), SHUT_OUT),
            "RSA of 1024 bits": (lambda: self._forged(key=rsa.generate_private_key(65537, 1024)), SHUT_OUT),  # noqa: S505
            "P-192, which TLS 1.3 does not even show": (
                lambda: self._forged(key=ec.generate_private_key(ec.SECP192R1())),
                "401",
            ),
            "altered after it was signed": (self._altered, SHUT_OUT),
            "with a serial number that nobody issued": (self._forged, "4401"),
            "with the name and the serial number of the true one": (self.same_serial, "4401"),
            "with the serial number of another agent's": (
                lambda: self._forged(names=[_uri(self._nobody().uri)], serial=self._true.serial_number),
                "4401",
            ),
        }

    def _wrong_names(self) -> Mapping[str, tuple[Callable[[], ssl.SSLContext], str]]:
        """All with the serial number of the true certificate, so that nothing but the name is wrong for the hub."""
        uri = self.name.uri
        foreign = AgentIdentity("elsewhere", self.name.organisation_id, self.name.agent_id)
        other = AgentIdentity(self.name.trust_domain, "another-organisation", self.name.agent_id)
        named = {
            "two names": [_uri(uri), _uri(f"{uri}-2")],
            "a name twice": [_uri(uri), _uri(uri)],
            "a DNS name": [x509.DNSName(self.name.agent_id)],
            "a DNS name beside its own": [_uri(uri), x509.DNSName("localhost")],
            "an e-mail address": [x509.RFC822Name("agent@example.com")],
            "only a common name": [],
            "a foreign trust domain": [_uri(foreign.uri)],
            "another organisation": [_uri(other.uri)],
            "an agent that does not exist": [_uri(self._nobody().uri)],
            "a path that goes on": [_uri(f"{uri}/admin")],
            "a slash at its end": [_uri(f"{uri}/")],
            "its scheme in capitals": [_uri(uri.replace("spiffe://", "SPIFFE://"))],
            "its trust domain in capitals": [_uri(uri.replace("://jtnt/", "://JTNT/"))],
            "a percent sign": [_uri(uri.replace("agent/", "agent/%2e"))],
            "a query": [_uri(f"{uri}?a=b")],
            "a fragment": [_uri(f"{uri}#a")],
            "a port": [_uri(uri.replace("://jtnt/", "://jtnt:443/"))],
            "dots": [_uri(uri.replace("/agent/", "/x/../agent/"))],
            "a line feed": [_uri(f"{uri}\n")],
            "another scheme": [_uri(uri.replace("spiffe://", "https://"))],
        }
        return {
            f"names: {what}": (partial(self._forged, names=names, serial=self._true.serial_number), "4401")
            for what, names in named.items()
        }

    # How each is made.

    def _forged(self, *, key: LeafKey | None = None, **differences: Any) -> ssl.SSLContext:
        """Return a client of the agents' CA whose certificate differs from a true one in this."""
        wanted = Wanted(
            **{
                "names": [_uri(self.name.uri)],
                "issuer": self.agents,
                "begins": self._now - timedelta(minutes=5),
                "ends": self._now + DAY,
                **differences,
            }
        )
        key = key or Ed25519PrivateKey.generate()
        return self._shown(_signed(wanted, key), key, [wanted.issuer.certificate])

    def _leaf_of(self, issuer: SigningCa) -> ssl.SSLContext:
        """Return a client with a perfect leaf of this CA, and every certificate there is between it and the root."""
        key = Ed25519PrivateKey.generate()
        wanted = Wanted(
            names=[_uri(self.name.uri)], issuer=issuer, begins=self._now - timedelta(minutes=5), ends=self._now + DAY
        )
        chain = [issuer.certificate, self.agents.certificate, self.root.certificate]
        return self._shown(_signed(wanted, key), key, list(dict.fromkeys(chain)))

    def _issuing(self, parent: SigningCa, *, path_length: int) -> SigningCa:
        key = ec.generate_private_key(ec.SECP256R1())
        return SigningCa(_made_ca("below", parent.certificate.subject, parent.key, key, path_length), key)

    def _namesake(self) -> SigningCa:
        """Another authority, whose root and CA are called as the hub's are."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = self.agents.certificate.subject
        return SigningCa(_made_ca("", self.root.certificate.subject, key, key, 0, subject=subject), key)

    def _itself(self) -> SigningCa:
        key = ec.generate_private_key(ec.SECP256R1())
        return SigningCa(_made_ca("me", _common_name("me"), key, key, 0), key)

    def _agent_as_ca(self) -> SigningCa:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_uri(self.name.uri)]
        wanted = Wanted(names=names, issuer=self.agents, begins=self._now - timedelta(minutes=5), ends=self._now + DAY)
        return SigningCa(_signed(wanted, key), key)

    def _nobody(self) -> AgentIdentity:
        return AgentIdentity(self.name.trust_domain, self.name.organisation_id, "nobody")

    def _of_a_public_kind(self) -> ssl.SSLContext:
        context = tls_with(self._hub.authority.root_pem)
        trustme.CA().issue_cert("agent@example.com").configure_cert(context)
        return context

    def _of_the_hub(self) -> ssl.SSLContext:
        server = self._hub.settings.pki_dir / "server.pem"
        return tls_with(self._hub.authority.root_pem, server, server)

    def _old_tls(self) -> ssl.SSLContext:
        return self._old(self.true())

    def _old(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _altered(self) -> ssl.SSLContext:
        """The CA's own signature under another agent's name."""
        key = Ed25519PrivateKey.generate()
        names = [_uri(self.name.uri)]
        wanted = Wanted(names=names, issuer=self.agents, begins=self._now - timedelta(minutes=5), ends=self._now + DAY)
        der = _signed(wanted, key).public_bytes(Encoding.DER)
        name = self.name.agent_id.encode()
        assert der.count(name) == 1
        other = bytes((name[0] ^ 1,)) + name[1:]
        altered = x509.load_der_x509_certificate(der.replace(name, other))
        return self._shown(altered, key, [self.agents.certificate])

    def _shown(self, leaf: x509.Certificate, key: LeafKey, chain: Sequence[x509.Certificate] = ()) -> ssl.SSLContext:
        """Return a client that shows this, whatever its own library thinks of it."""
        home = self._folder / str(next(self._numbers))
        home.mkdir()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (home / "client.key").write_bytes(private)
        (home / "client.crt").write_bytes(b"".join(part.public_bytes(Encoding.PEM) for part in (leaf, *chain)))
        context = tls_with(self._hub.authority.root_pem)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(home / "client.crt", home / "client.key")
        return context


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(wanted: Wanted, key: LeafKey) -> x509.Certificate:
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_common_name("JTNT agent"))
        .issuer_name(wanted.issuer.certificate.subject)
        .public_key(public)
        .serial_number(wanted.serial or x509.random_serial_number())
        .not_valid_before(wanted.begins)
        .not_valid_after(wanted.ends)
        .add_extension(x509.BasicConstraints(ca=wanted.is_ca, path_length=None), critical=True)
        .add_extension(_key_usage(is_ca=wanted.is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(wanted.issuer.key.public_key()), critical=False
        )
    )
    if wanted.usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wanted.usage), critical=False)
    if wanted.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(wanted.names), critical=False)
    for extension in wanted.further:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(wanted.issuer.key, hashes.SHA256())


def _made_ca(
    name: str,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    path_length: int,
    *,
    subject: x509.Name | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject or _common_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
