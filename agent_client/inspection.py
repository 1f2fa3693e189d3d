"""`test-connection`: each step of the way to the hub, in order, until one fails. Opens no session."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from agent_client.config import load_config
from agent_client.enrollment.errors import BadAnswer, HubNotReached, WrongHub
from agent_client.enrollment.hub import HubAddress, HubDoor
from agent_client.enrollment.unreached import words_for
from agent_client.paths import Places
from agent_client.renewal.pairs import Pair, Pairs
from agent_client.report import certificate_words
from agent_client.transport.endings import CertificateRefused
from agent_client.transport.tls import anchored_context, context_of, ending_of
from agent_client.trust.document import load_trust, server_anchors

TIMEOUT_SECONDS: Final = 10.0
REFUSAL_WAIT_SECONDS: Final = 0.5
NAME_NOT_FOUND: Final = 2
NOTHING_ANSWERS: Final = 3
NOT_OUR_HUB: Final = 4
CERTIFICATE_REFUSED: Final = 5
NO_HUB: Final = 6


class Probe(Struct, frozen=True):
    """One step; `exit_code` 0 when it went well."""

    name: str
    detail: str
    exit_code: int = 0


def check_connection(places: Places) -> Iterator[Probe]:
    """Yield each step as it is done; the last is the first that failed.

    Raises ConfigError, StoreError or TrustError.
    """
    config = load_config(places)
    anchors_pem = server_anchors(load_trust(places)[1])
    pair = Pairs(places).candidates(config.agent_id)[0]
    context = context_of(anchors_pem, pair)
    parts = urlsplit(config.websocket_url)
    address = HubAddress(parts.hostname or "", parts.port or 443)
    yield Probe("configuration", f"agent {config.agent_id} of organisation {config.organisation_id}")
    steps: tuple[Callable[[], Probe], ...] = (
        lambda: _name(address),
        lambda: _port(address),
        lambda: _hub(address, anchors_pem),
        lambda: _expiry(pair),
        lambda: _certificate(address, context),
    )
    for step in steps:
        probe = step()
        yield probe
        if probe.exit_code:
            return


def _name(address: HubAddress) -> Probe:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Probe("name", words_for(error, address.host, address.port), NAME_NOT_FOUND)
    return Probe("name", f"{address.host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}")


def _port(address: HubAddress) -> Probe:
    began = time.monotonic()
    try:
        socket.create_connection((address.host, address.port), TIMEOUT_SECONDS).close()
    except OSError as error:
        return Probe("port", words_for(error, address.host, address.port), NOTHING_ANSWERS)
    return Probe("port", f"port {address.port} answers in {(time.monotonic() - began) * 1000:.0f} ms")


def _hub(address: HubAddress, anchors_pem: str) -> Probe:
    context = anchored_context(anchors_pem)
    try:
        with (
            socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as channel,
        ):
            version = channel.version()
    except ssl.SSLCertVerificationError as error:
        return Probe("hub's certificate", f"not of this fleet: {error.verify_message}", NOT_OUR_HUB)
    except OSError as error:
        return Probe("hub's certificate", words_for(error, address.host, address.port), NOT_OUR_HUB)
    return Probe("hub's certificate", f"of this fleet, for {address.host}, {version}")


def _expiry(pair: Pair) -> Probe:
    is_over = pair.facts.not_after_ms / 1000 <= time.time()
    words = certificate_words(pair.facts.not_after_ms)
    return Probe("our certificate", words, CERTIFICATE_REFUSED if is_over else 0)


def _certificate(address: HubAddress, context: ssl.SSLContext) -> Probe:
    refusal = _refusal(address, context)
    if refusal:
        return Probe("mutual TLS", f"the hub refused our certificate: {refusal}", CERTIFICATE_REFUSED)
    try:
        status = HubDoor(address, TIMEOUT_SECONDS).knock(context)
    except (HubNotReached, WrongHub, BadAnswer) as error:
        return Probe("mutual TLS", str(error), NO_HUB)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Probe("mutual TLS", f"the hub is in trouble: HTTP status {status}", NO_HUB)
    return Probe("mutual TLS", "the hub took our certificate")


def _refusal(address: HubAddress, context: ssl.SSLContext) -> str:
    """Return why the hub's TLS refuses our certificate, empty when it does not.

    In TLS 1.3 that comes after the handshake: an alert, or a hub that hangs up; one that is content says nothing.
    """
    try:
        with (
            socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as channel,
        ):
            channel.settimeout(REFUSAL_WAIT_SECONDS)
            channel.recv(1)
    except TimeoutError:
        return ""
    except OSError as error:
        ending = ending_of(error)
        return ending.reason if isinstance(ending, CertificateRefused) else f"it hung up ({ending.reason})"
    return "it hung up"
