"""TLS towards the hub: 1.3 only, the authorities of the trust document and no others, our certificate."""

from __future__ import annotations

import ssl
from asyncio import sslproto
from collections.abc import Iterator

from agent_client.renewal.pairs import Pair
from agent_client.store.secure import StoreError
from agent_client.transport.endings import CertificateRefused, HubNotTrusted, Unreachable

# asyncio makes a connection's read buffer of 256 KiB, and the pages stay; frames of the hub are far smaller.
sslproto.SSLProtocol.max_size = 32 * 1024


def context_of(anchors_pem: str, pair: Pair) -> ssl.SSLContext:
    """Return a context that trusts `anchors_pem` alone and shows the certificate of `pair`.

    Raises StoreError when the files of the pair do not fit each other, or an anchor is none.
    """
    context = anchored_context(anchors_pem)
    try:
        context.load_cert_chain(pair.certificate, pair.key)
    except (ssl.SSLError, OSError) as error:
        raise StoreError(
            f"{pair.certificate} and {pair.key} are no certificate and key that fit: {error}; enroll again"
        ) from error
    return context


def anchored_context(anchors_pem: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities in `anchors_pem`, and not the root above them.

    So a retired authority is refused although the root signed it. Without any anchor every hub is refused.
    """
    context = bare_context()
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if anchors_pem:
        try:
            context.load_verify_locations(cadata=anchors_pem)
        except ssl.SSLError as error:
            raise StoreError(f"the trust document's authorities cannot be read: {error}; enroll again") from error
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
