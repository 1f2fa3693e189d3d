"""The words of certificates: what was issued, to whom, and how it stands."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from protocol.identity import AgentIdentity


class Standing(StrEnum):
    """What a certificate is worth now."""

    CURRENT = "current"
    UNKNOWN = "unknown"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNTRUSTED = "untrusted"
    """The CA that issued it was revoked."""


class IssuedCertificate(Struct, frozen=True, kw_only=True):
    """A certificate of an agent. `pem`: the leaf, then its issuing CA. `serial`: as `serial_text` writes it.

    `issuer`: the id of the authority that issued it. `replaces`: the serial with which it was asked for.
    """

    organisation_id: str
    agent_id: str
    serial: str
    pem: str
    public_key_sha256: bytes
    not_before: datetime
    not_after: datetime
    issuer: str = ""
    replaces: str | None = None


class KnownCertificate(Struct, frozen=True, kw_only=True):
    """What of an issued certificate decides whether its holder gets in. `is_used`: the agent was seen with it."""

    serial: str
    agent_id: str
    public_key_sha256: bytes
    issuer: str
    expires_at: datetime
    replaces: str | None = None
    is_used: bool = False
    is_superseded: bool = False
    is_revoked: bool = False


class StoredCertificate(Struct, frozen=True, kw_only=True):
    """An issued certificate with what became of it."""

    certificate: IssuedCertificate
    first_used_at: datetime | None
    superseded_at: datetime | None
    revoked_at: datetime | None


class ServerCredentials(Struct, frozen=True, kw_only=True):
    """PEM files for a TLS server: chain and key (one and the same file here)."""

    certificate_path: Path
    key_path: Path


class Peer(Struct, frozen=True, kw_only=True):
    """Who holds the other end of a TLS connection, and by which certificate and key."""

    identity: AgentIdentity
    serial: str
    public_key_sha256: bytes


def serial_text(number: int) -> str:
    """Return a serial number as OpenSSL writes it: upper-case hexadecimal of whole bytes."""
    text = f"{number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"
