"""TLS of the agents' listener: 1.3 only, the client's certificate checked when there is one."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub_server.pki.authority import Authority
from hub_server.pki.certificates import key_sha256_of_der
from hub_server.pki.model import Peer
from protocol.identity import AgentIdentity, MalformedIdentity


class AgentsTls:
    """The context of the agents' listener, exchanged as keys rotate. Connections that are open keep theirs."""

    def __init__(self, authority: Authority, names: Sequence[str]) -> None:
        """`names`: of the hub, for its certificate."""
        self._authority = authority
        self._names = tuple(names)
        self._made_of = self._parts()
        self._context = _context_of(*self._made_of)

    def current(self) -> ssl.SSLContext:
        """Return the context for the next handshake."""
        return self._context

    def refresh(self) -> bool:
        """Renew the certificate where it is time; return whether handshakes are different from now on."""
        parts = self._parts()
        if parts == self._made_of:
            return False
        self._context = _context_of(*parts)
        self._made_of = parts
        return True

    def _parts(self) -> tuple[Path, bytes, str]:
        path = self._authority.server_credentials(self._names).certificate_path
        return path, hashlib.sha256(path.read_bytes()).digest(), self._authority.agents_anchors_pem


def _context_of(credentials: Path, _digest: bytes, anchors_pem: str) -> ssl.SSLContext:
    """The anchors are the agents' issuing CAs themselves, so that one that is no longer trusted lets nobody in although
    the root has signed it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed session would skip the check of the certificate's expiry
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(credentials)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=anchors_pem)
    return context


def peer_of(certificate: Mapping[str, Any] | None, der: bytes | None) -> Peer | None:
    """Return who presented the certificate, as `getpeercert()` gives it in both forms; None when none was presented.

    Raises MalformedIdentity unless it names exactly one agent and nothing else, and its key can be read.
    """
    if not certificate or not der:
        return None
    match certificate.get("subjectAltName"):
        case (("URI", str(uri)),):
            identity = AgentIdentity.parse(uri)
        case _:
            raise MalformedIdentity("the certificate must name one agent and nothing else")
    try:
        key = key_sha256_of_der(der)
    except ValueError as error:
        raise MalformedIdentity("the certificate's key cannot be read; enroll the agent again") from error
    return Peer(identity=identity, serial=str(certificate["serialNumber"]), public_key_sha256=key)
