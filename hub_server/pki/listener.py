"""TLS of the agents' listener: 1.3 only, the client's certificate checked when there is one."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from hub_server.pki.authority import Authority
from hub_server.pki.model import Peer
from protocol.identity import AgentIdentity, MalformedIdentity


def agents_tls_context(authority: Authority, names: Sequence[str]) -> ssl.SSLContext:
    """Return a server context with a certificate for `names`.

    The root is the only anchor. The agents' CA is there to complete the chain of a client that sends its leaf alone;
    the servers' CA is not, so that its leaves end nowhere.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed session would skip the check of the certificate's expiry
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    credentials = authority.server_credentials(names)
    context.load_cert_chain(credentials.certificate_path, credentials.key_path)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_TRUSTED_FIRST
    context.load_verify_locations(cadata=authority.root_pem + authority.agents_ca_pem)
    return context


def peer_of(certificate: Mapping[str, Any] | None) -> Peer | None:
    """Return who presented `certificate` (as `getpeercert()` gives it), or None when none was presented.

    Raises MalformedIdentity unless it names exactly one agent and nothing else.
    """
    if not certificate:
        return None
    match certificate.get("subjectAltName"):
        case (("URI", str(uri)),):
            return Peer(identity=AgentIdentity.parse(uri), serial=str(certificate["serialNumber"]))
        case _:
            raise MalformedIdentity("the certificate must name one agent and nothing else")
