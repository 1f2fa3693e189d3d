"""Where a hub is, and how its certificate is checked."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from hub_server.operator.errors import BadAddress, NotConnected
from hub_server.operator.packets import QUERY

PORTS: Final = {"http": 80, "https": 443}
LOCAL_NAME: Final = "localhost"
NO_TLS: Final = "WRONG_VERSION_NUMBER"
"""OpenSSL's word for an answer in plain HTTP."""
LOOK_DEADLINE_SECONDS: Final = 15.0


class HubAddress(Struct, frozen=True):
    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> HubAddress:
        """Raises BadAddress unless `url` is https://host[:port], or http:// of this machine."""
        try:
            parts = urlsplit(url.strip() if "://" in url else f"https://{url.strip()}")
            port = parts.port
        except ValueError as error:
            raise BadAddress(f"{url!r}: the host or the port cannot be read") from error
        if parts.scheme not in PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise BadAddress(f"{url!r}: it should look like https://hub.example:3000")
        address = cls(parts.scheme, parts.hostname, port or PORTS[parts.scheme])
        if not address.is_https and not _is_this_machine(address.host):
            raise BadAddress(f"{url!r}: passwords would travel in the clear; use https, the hub speaks it or its proxy")
        return address

    @property
    def is_https(self) -> bool:
        return self.scheme == "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self._place}"

    @property
    def socket_url(self) -> str:
        return f"{'wss' if self.is_https else 'ws'}://{self._place}{QUERY}"

    def unreached(self, why: Exception) -> str:
        """Return what to tell a person whom nobody answers there, or not as a hub does."""
        if isinstance(why, ssl.SSLError) and why.reason == NO_TLS:
            hint = f"; try {HubAddress('http', self.host, self.port).url}" if _is_this_machine(self.host) else ""
            return f"what answers at {self.url} does not speak TLS{hint}"
        return f"cannot reach the hub at {self.url}: {str(why) or type(why).__name__}"

    @property
    def _place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class Anchors(Struct, frozen=True):
    """Whom to trust: the system's authorities; or those in `ca_pem`; or `pinned_pem`, the hub's own certificate and no
    other, whatever name it has.
    """

    ca_pem: str | None = None
    pinned_pem: str | None = None

    def context(self) -> ssl.SSLContext:
        """Raises BadAddress for a certificate that is none."""
        try:
            if self.pinned_pem is not None:
                return _pinning(self.pinned_pem)
            return ssl.create_default_context(cadata=self.ca_pem)
        except ssl.SSLError as error:
            raise BadAddress(f"this is no certificate in PEM: {error}") from error


def anchors_in(file: Path | None) -> Anchors:
    """Return the authorities of a file, without one the system's. Raises BadAddress."""
    if file is None:
        return Anchors()
    try:
        anchors = Anchors(ca_pem=file.read_text("ascii"))
    except (OSError, UnicodeError) as error:
        raise BadAddress(f"{file} cannot be read as certificates in PEM: {error}") from error
    anchors.context()
    return anchors


def certificate_shown_at(address: HubAddress) -> str:
    """Return the certificate that whoever answers there shows, as PEM: it proves nothing. Raises NotConnected."""
    try:
        return ssl.get_server_certificate((address.host, address.port), timeout=LOOK_DEADLINE_SECONDS)
    except (OSError, ValueError) as error:
        raise NotConnected(address.unreached(error)) from error


def fingerprint_of(pem: str) -> str:
    """Return the SHA-256 of a certificate as people compare it: AB:CD:…"""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest().hex(":").upper()


def _pinning(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the certificate itself is known
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=pem)
    return context


def _is_this_machine(host: str) -> bool:
    try:
        return host == LOCAL_NAME or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
