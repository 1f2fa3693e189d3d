"""Whose address a request comes from, and whether it is of this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from aiohttp import web

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNKNOWN: Final = "unknown"
LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class AddressReader:
    """Believes `X-Forwarded-For` only from the proxies that the settings name."""

    def __init__(self, trusted_proxies: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted_proxies)

    def is_local(self, request: web.Request) -> bool:
        """Tell whether a program of this machine asks. What a proxy passes on is not: not even one nobody named."""
        if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
            return False
        return is_within(request.remote or UNKNOWN, LOOPBACK)

    def address_of(self, request: web.Request) -> str:
        """Return the nearest address that is no trusted proxy's."""
        address = request.remote or UNKNOWN
        if not is_within(address, self._trusted):
            return address
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
        for hop in reversed([text.strip() for text in forwarded.split(",") if text.strip()]):
            address = hop[:64]
            if not is_within(address, self._trusted):
                break
        return address


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether `address` is one of `networks`; an IPv4 address in IPv6 clothes is the IPv4 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    plain = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped else parsed
    return any(plain in network for network in networks)
