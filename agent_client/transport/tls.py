"""TLS towards the hub: 1.3 only, this fleet's root and no other, our certificate."""

from __future__ import annotations

import ssl
from asyncio import sslproto
from collections.abc import Iterator

from agent_client.paths import CA_BUNDLE, CLIENT_CERTIFICATE, CLIENT_KEY, Places
from agent_client.store.secure import SecureStore, StoreError
from agent_client.transport.endings import CertificateRefused, HubNotTrusted, Unreachable

# asyncio makes a connection's read buffer of 256 KiB, and the pages stay; frames of the hub are far smaller.
sslproto.SSLProtocol.max_size = 32 * 1024


def context_of(places: Places) -> ssl.SSLContext:
    """Return a context that trusts the stored CA bundle alone and shows the stored certificate.

    Raises StoreError when a file is missing, open to others, or not what it should be.
    """
    store = SecureStore(places.certs)
    context = bare_context()
    try:
        context.load_verify_locations(cafile=store.verified(CA_BUNDLE))
        context.load_cert_chain(store.verified(CLIENT_CERTIFICATE), store.verified(CLIENT_KEY))
    except (ssl.SSLError, OSError) as error:
        raise StoreError(
            f"the files in {places.certs} are no certificate and key that fit: {error}; enroll again"
        ) from error
    return context


def bare_context() -> ssl.SSLContext:
    """Return a context that trusts nobody yet, and checks the hub's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def ending_of(error: BaseException) -> Unreachable | HubNotTrusted | CertificateRefused:
    """Return what a failed connection means.

    In TLS 1.3 a client learns that its certificate was refused only by an alert on its first read, so the alert may be
    wrapped in whatever the reader made of the lost connection.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return HubNotTrusted(cause.verify_message or str(cause))
        if isinstance(cause, ssl.SSLError) and cause.reason and "ALERT" in cause.reason:
            return CertificateRefused(cause.reason.lower().replace("_", " "))
    return Unreachable(str(error) or type(error).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
