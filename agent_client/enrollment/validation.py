"""What the hub sends is believed only after these checks (seed 000, "Validate Certificate Chain")."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    DuplicateExtension,
    ExtendedKeyUsage,
    ExtensionNotFound,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    load_pem_x509_certificates,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct

from agent_client.enrollment.errors import BadAnswer, WrongHub
from agent_client.trust.document import TrustError
from agent_client.trust.root import verify_trust
from protocol.enrollment import EnrollReply
from protocol.identity import AgentIdentity, MalformedIdentity, pin_of, pins_match

# A machine's clock may be a little behind the hub's.
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
BUNDLE_MAX_CERTIFICATES: Final = 16


class ChainFacts(Struct, frozen=True):
    identity: AgentIdentity
    not_before: datetime
    not_after: datetime


def pinned_root(bundle_pem: str, pin: bytes) -> str:
    """Return, as PEM, the bundle's first certificate: the root the token names. Raises WrongHub when it is another.

    The rest of the bundle comes from nobody knows whom, and is not returned.
    """
    root = _certificates(bundle_pem, "CA bundle")[0]
    _require_pin(root, pin)
    return root.public_bytes(Encoding.PEM).decode()


def check_reply(reply: EnrollReply, public_key_der: bytes, pin: bytes, now: datetime) -> ChainFacts:
    """Return who the answer makes this agent. Raises BadAnswer or WrongHub; then nothing of it may be saved."""
    bundle = _certificates(reply.ca_bundle_pem, "CA bundle")
    root, authorities = bundle[0], bundle[1:]
    _require_pin(root, pin)
    _require_issued(root, root, "the root", now)
    for authority in authorities:
        _require_authority(authority, "a CA of the bundle")
        _require_issued(authority, root, "a CA of the bundle", now)
    facts = check_chain(reply.client_cert_pem, reply.ca_bundle_pem, public_key_der, now)
    identity = facts.identity
    if identity.agent_id != reply.agent_id:
        raise BadAnswer("the certificate the hub sent is for another agent than its answer")
    if not reply.websocket_url.startswith("wss://"):
        raise BadAnswer(f"the hub's socket address is not a secure one: {reply.websocket_url[:200]!r}")
    try:
        verify_trust(reply.trust, reply.ca_bundle_pem.encode(), identity.trust_domain)
    except TrustError as error:
        raise BadAnswer(f"the hub's trust document must not be believed: {error}") from error
    return facts


def check_chain(chain_pem: str, ca_bundle_pem: str, public_key_der: bytes, now: datetime | None) -> ChainFacts:
    """Return what a client certificate says, once it chains to the bundle's root and is for the key.

    `now` is None where it may be over. Raises BadAnswer when it does not, or is not.
    """
    leaf = _checked_chain(chain_pem, _certificates(ca_bundle_pem, "CA bundle")[0], now)
    if _public_der(leaf) != public_key_der:
        raise BadAnswer("the certificate the hub sent is not for this agent's key")
    return ChainFacts(_identity_of(leaf), leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def _checked_chain(chain_pem: str, root: Certificate, now: datetime | None) -> Certificate:
    """Return the leaf, once each certificate is known to be issued by the next, and the last by the root."""
    chain = _certificates(chain_pem, "client certificate")
    leaf, authorities = chain[0], chain[1:]
    if not authorities or _public_der(root) in map(_public_der, chain):
        raise BadAnswer("the client certificate came without the CA that issued it")
    for authority in authorities:
        _require_authority(authority, "the client certificate's CA")
    for issued, issuer in pairwise((*chain, root)):
        _require_issued(issued, issuer, "the client certificate", now)
    if _is_authority(leaf):
        raise BadAnswer("the client certificate is one of a CA")
    if ExtendedKeyUsageOID.CLIENT_AUTH not in _key_usages(leaf):
        raise BadAnswer("the certificate the hub sent is not for clients")
    return leaf


def _certificates(pem: str, what: str) -> Sequence[Certificate]:
    try:
        certificates = load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise BadAnswer(f"the {what} cannot be read: {error}") from error
    if len(certificates) > BUNDLE_MAX_CERTIFICATES:
        raise BadAnswer(f"the {what} has more certificates than any hub's")
    return certificates


def _require_pin(root: Certificate, pin: bytes) -> None:
    if not pins_match(pin_of(_public_der(root)), pin):
        raise WrongHub(
            "this hub is not the one that made the token: its root has another key. The token was not sent. "
            "Check the address; if it is right, somebody else answers there"
        )


def _require_issued(certificate: Certificate, issuer: Certificate, what: str, now: datetime | None) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise BadAnswer(f"{what} does not chain to the pinned root") from error
    if now is None:
        return
    if not certificate.not_valid_before_utc - CLOCK_TOLERANCE <= now <= certificate.not_valid_after_utc:
        raise BadAnswer(
            f"{what} is not valid now; is this machine's clock right? It says {now.astimezone(UTC):%F %T} UTC"
        )


def _require_authority(certificate: Certificate, what: str) -> None:
    if not _is_authority(certificate):
        raise BadAnswer(f"{what} is not allowed to issue certificates")


def _is_authority(certificate: Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except ExtensionNotFound:
        return False
    except (ValueError, DuplicateExtension) as error:
        raise BadAnswer(f"a certificate's extensions cannot be read: {error}") from error


def _key_usages(certificate: Certificate) -> ExtendedKeyUsage | tuple[()]:
    try:
        return certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:
        return ()


def _identity_of(leaf: Certificate) -> AgentIdentity:
    try:
        names = list(leaf.extensions.get_extension_for_class(SubjectAlternativeName).value)
    except ExtensionNotFound:
        names = []
    if len(names) != 1 or not isinstance(names[0], UniformResourceIdentifier):
        raise BadAnswer("the client certificate must name exactly one agent")
    try:
        return AgentIdentity.parse(names[0].value)
    except MalformedIdentity as error:
        raise BadAnswer(f"the client certificate names no agent: {error}") from error


def _public_der(certificate: Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
