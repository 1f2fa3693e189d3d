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
    REVOKED = "revoked"
    EXPIRED = "expired"


class IssuedCertificate(Struct, frozen=True, kw_only=True):
    """A certificate of an agent. `pem`: the leaf, then its issuing CA. `serial`: as `serial_text` writes it."""

    organisation_id: str
    agent_id: str
    serial: str
    pem: str
    public_key_sha256: bytes
    not_before: datetime
    not_after: datetime


class ServerCredentials(Struct, frozen=True, kw_only=True):
    """PEM files for a TLS server: chain and key (one and the same file here)."""

    certificate_path: Path
    key_path: Path


class Peer(Struct, frozen=True, kw_only=True):
    """Who holds the other end of a TLS connection."""

    identity: AgentIdentity
    serial: str


def serial_text(number: int) -> str:
    """Return a serial number as OpenSSL writes it: upper-case hexadecimal of whole bytes."""
    text = f"{number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"
