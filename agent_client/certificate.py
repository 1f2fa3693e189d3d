"""The agent's certificate as the daemon knows it, without any X.509 library.

Whoever has checked a certificate writes what it says in front of it, as explanatory text (RFC 7468, 2): the file holds
both or neither, so they cannot part.
"""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from typing import ClassVar, Final

from msgspec import Struct

from agent_client.errors import AgentError
from protocol.identity import AgentIdentity, MalformedIdentity

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_IDENTITY: Final = "Identity"
_NOT_BEFORE: Final = "Not-Before"
_NOT_AFTER: Final = "Not-After"


class CertificateUnreadable(AgentError):
    """The message says what to do."""

    code: ClassVar[str] = "certificate_unreadable"


class CertificateFacts(Struct, frozen=True):
    """`not_before_ms`, `not_after_ms`: since the epoch, whole seconds. `issuer_sha256`, `sha256`: of the issuing CA and
    of the certificate itself, in DER.
    """

    identity: AgentIdentity
    not_before_ms: int
    not_after_ms: int
    issuer_sha256: str
    sha256: str


def described(chain_pem: str, identity: AgentIdentity, not_before: datetime, not_after: datetime) -> bytes:
    """Return the content of a certificate file: what a checked chain says, then the chain, leaf first."""
    lines = (
        f"{_IDENTITY}: {identity.uri}",
        f"{_NOT_BEFORE}: {not_before.astimezone(UTC).isoformat()}",
        f"{_NOT_AFTER}: {not_after.astimezone(UTC).isoformat()}",
    )
    return ("\n".join(lines) + "\n" + _blocks(chain_pem)).encode()


def is_described(content: bytes) -> bool:
    """Return whether more than a chain is in the file; earlier versions kept the chain alone."""
    return not content.lstrip().startswith(_BEGIN.encode())


def facts_of(content: bytes) -> CertificateFacts:
    """Return what `described` wrote. Raises CertificateUnreadable for anything else."""
    if not is_described(content):
        raise CertificateUnreadable("an earlier version wrote it; jtnt-agentd brings it up to date when it connects")
    try:
        text = content.decode("ascii")
        head = text.partition(_BEGIN)[0]
        said = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        leaf, issuer = _blocks(text).split(_END)[:2]
        return CertificateFacts(
            identity=AgentIdentity.parse(said[_IDENTITY]),
            not_before_ms=_milliseconds(said[_NOT_BEFORE]),
            not_after_ms=_milliseconds(said[_NOT_AFTER]),
            issuer_sha256=_sha256(issuer),
            sha256=_sha256(leaf),
        )
    except (ValueError, KeyError, IndexError, MalformedIdentity) as error:
        raise CertificateUnreadable(f"it cannot be read ({error}); enroll again") from error


def chain_of(content: bytes) -> str:
    """Return the chain alone, as PEM."""
    return _blocks(content.decode("ascii", "replace"))


def _blocks(text: str) -> str:
    _, begin, rest = text.partition(_BEGIN)
    return begin + rest


def _sha256(block: str) -> str:
    """Return that of a PEM block that lacks its last line."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(block.strip() + "\n" + _END)).hexdigest()


def _milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)
