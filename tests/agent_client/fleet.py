"""A fleet's keys, certificates and signed documents for tests, made as a hub makes them."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent_client.certificate import described
from agent_client.config import Config, save_config
from agent_client.paths import CA_BUNDLE, CLIENT_CERTIFICATE, CLIENT_KEY, POLICY, Places
from agent_client.store.secure import SecureStore
from agent_client.trust.document import save_trust
from protocol.actions import script_body, script_hash
from protocol.desired import AgentPolicy
from protocol.enumerations import Action
from protocol.envelope import IssuingAuthority, JobEnvelope, SignedTrust, SigningKey, TrustDocument
from protocol.frames import CertificateReply, CertificateRequest, Command, Signature
from protocol.identity import AgentIdentity, EnrollmentToken, key_id_of, pin_of

DOMAIN = "fleet.test"
ORGANISATION = "org-1"
AGENT = "agent-1"
_RUN: Final = uuid4().hex


def own_id(job_id: str) -> str:
    """Return it as one that no other run of tests on this machine has: whoever ends a job ends all that bear its id."""
    return f"{job_id}-{_RUN}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Authority:
    """A CA: its key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def public_der(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def authority(name: str, issuer: Authority | None = None) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, issuer.certificate.subject if issuer else subject, key.public_key(), days=365)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), critical=True)
    return Authority(key, builder.sign(issuer.key if issuer else key, SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: Any, days: float, age_days: float = 0
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + timedelta(days=days)) - timedelta(days=age_days, minutes=5))
        .not_valid_after(now + timedelta(days=days))
    )


@dataclass
class Signer:
    """A key that signs jobs."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public_bytes(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        return key_id_of(self.public_bytes)

    def as_trusted(self, not_after_ms: int | None = None) -> SigningKey:
        return SigningKey(
            key_id=self.key_id,
            public_key=base64.b64encode(self.public_bytes).decode(),
            not_after_ms=now_ms() + 86_400_000 if not_after_ms is None else not_after_ms,
        )

    def sign(self, payload: bytes) -> Signature:
        return Signature(key_id=self.key_id, signature=base64.b64encode(self.key.sign(payload)).decode())


class Fleet:
    """One root with all that hangs on it."""

    def __init__(self) -> None:
        self.root = authority("fleet root")
        self.agents_ca = authority("fleet agents", self.root)
        self.servers_ca = authority("fleet servers", self.root)
        self.signer = Signer()

    @property
    def pin(self) -> bytes:
        return pin_of(self.root.public_der)

    @property
    def bundle_pem(self) -> str:
        return self.root.pem + self.agents_ca.pem + self.servers_ca.pem

    def token(self) -> EnrollmentToken:
        return EnrollmentToken.generate(self.pin)

    def trust(self, version: int = 1, **changes: Any) -> SignedTrust:
        return self.sign_trust(self.trust_document(version, **changes))

    def trust_document(self, version: int = 1, **changes: Any) -> TrustDocument:
        values: dict[str, Any] = {
            "version": version,
            "issued_at_ms": now_ms(),
            "trust_domain": DOMAIN,
            "issuing_authorities": [
                IssuingAuthority(use="agents", certificate_pem=self.agents_ca.pem),
                IssuingAuthority(use="servers", certificate_pem=self.servers_ca.pem),
            ],
            "signers": [self.signer.as_trusted()],
        }
        return TrustDocument(**values | changes)

    def sign_trust(self, document: TrustDocument) -> SignedTrust:
        return self.sign_exactly(msgspec.json.encode(document))

    def sign_exactly(self, exact: bytes) -> SignedTrust:
        signature = self.root.key.sign(exact, ec.ECDSA(SHA256()))
        return SignedTrust(
            document=base64.b64encode(exact).decode(),
            signatures=[Signature(key_id="root", signature=base64.b64encode(signature).decode())],
        )

    def client_certificate(
        self,
        public_key: Ed25519PublicKey,
        *,
        agent_id: str = AGENT,
        days: float = 30,
        age_days: float = 0,
        names: list[x509.GeneralName] | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        issuer: Authority | None = None,
    ) -> str:
        """Return leaf and issuing CA, as an enroll reply carries them."""
        issuer = issuer or self.agents_ca
        uri = AgentIdentity(DOMAIN, ORGANISATION, agent_id).uri
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, agent_id)])
        certificate = (
            _builder(subject, issuer.certificate.subject, public_key, days, age_days)
            .add_extension(
                x509.SubjectAlternativeName(names if names is not None else [x509.UniformResourceIdentifier(uri)]),
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(issuer.key, SHA256())
        )
        return certificate.public_bytes(Encoding.PEM).decode() + issuer.pem

    def certify(self, request: CertificateRequest, **certificate: Any) -> CertificateReply:
        """Return the hub's answer to an agent that asks for a new certificate."""
        public_key = x509.load_pem_x509_csr(request.csr_pem.encode()).public_key()
        assert isinstance(public_key, Ed25519PublicKey)
        return CertificateReply(
            request_id=request.request_id, certificate_pem=self.client_certificate(public_key, **certificate)
        )

    def server_files(self, folder: Path, host: str = "127.0.0.1") -> tuple[Path, Path]:
        """Write and return the hub's chain and key for `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
        name = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        certificate = (
            _builder(subject, self.servers_ca.certificate.subject, key.public_key(), 30)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self.servers_ca.key, SHA256())
        )
        chain, key_file = folder / "server.crt", folder / "server.key"
        chain.write_text(certificate.public_bytes(Encoding.PEM).decode() + self.servers_ca.pem)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return chain, key_file

    def enroll_by_hand(
        self,
        places: Places,
        port: int,
        *,
        days: float = 30,
        age_days: float = 0,
        trust: SignedTrust | None = None,
        **settings: Any,
    ) -> Config:
        """Put the files of an enrolled agent in place, with short waits; its certificate has `days` left."""
        key = Ed25519PrivateKey.generate()
        certs, state = SecureStore(places.certs), SecureStore(places.state)
        certs.save(CLIENT_KEY, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        agent_id = settings.get("agent_id", AGENT)
        chain = self.client_certificate(key.public_key(), agent_id=agent_id, days=days, age_days=age_days)
        certs.save(CLIENT_CERTIFICATE, described_chain(chain))
        certs.save(CA_BUNDLE, self.bundle_pem.encode())
        save_trust(places, trust or self.trust())
        state.save(POLICY, msgspec.json.encode(AgentPolicy()))
        values: dict[str, Any] = {
            "agent_id": AGENT,
            "organisation_id": ORGANISATION,
            "trust_domain": DOMAIN,
            "hub_url": f"https://127.0.0.1:{port}",
            "websocket_url": f"wss://127.0.0.1:{port}/ws/agents",
            "first_retry_spread_seconds": 0.05,
            "backoff_initial_seconds": 0.05,
            "backoff_max_seconds": 0.2,
            "close_timeout_seconds": 1.0,
            "kill_grace_seconds": 0.3,
        }
        config = Config(**values | settings)
        save_config(places, config)
        return config

    def envelope(self, job_id: str, argv: list[str], **changes: Any) -> JobEnvelope:
        values: dict[str, Any] = {
            "job_id": job_id,
            "organisation_id": ORGANISATION,
            "agent_id": AGENT,
            "action": "exec",
            "argv": argv,
            "issued_at": now_ms(),
            "expires_at": now_ms() + 60_000,
            "timeout_sec": 20.0,
        }
        values |= changes
        return JobEnvelope(**values | {"action": Action(values["action"])})

    def command(self, envelope: JobEnvelope, signer: Signer | None = None, command_id: str | None = None) -> Command:
        payload = msgspec.json.encode(envelope)
        return command_of(payload, (signer or self.signer).sign(payload), command_id or envelope.job_id, envelope)

    def script(self, job_id: str, script: str, arguments: list[str] | None = None, **changes: Any) -> Command:
        """Return the order for a script, with the script."""
        body = script.encode()
        values = {"action": "script", "interpreter": "sh", "script_sha256": script_hash(body)}
        command = self.command(self.envelope(job_id, arguments or [], **values | changes))
        return msgspec.structs.replace(command, script=script_body(body))


def fingerprint_of(key: CertificatePublicKeyTypes) -> str:
    """Return what the hub shows of a public key to whoever approves it."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def described_chain(chain_pem: str) -> bytes:
    """Return the certificate file that an agent keeps of a chain."""
    leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
    (uri,) = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )
    return described(chain_pem, AgentIdentity.parse(uri), leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def command_of(payload: bytes, signature: Signature, command_id: str, envelope: JobEnvelope) -> Command:
    return Command(
        command_id=command_id,
        command_type="exec",
        command_data={"argv": envelope.argv},
        payload=base64.b64encode(payload).decode(),
        signatures=[signature],
        expires_at=envelope.expires_at,
    )
