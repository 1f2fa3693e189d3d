"""Whose address a request comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from aiohttp import web

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNKNOWN: Final = "unknown"


class AddressReader:
    """Believes `X-Forwarded-For` only from the proxies that the settings name."""

    def __init__(self, trusted_proxies: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted_proxies)

    def address_of(self, request: web.Request) -> str:
        """Return the nearest address that is no trusted proxy's."""
        address = request.remote or UNKNOWN
        if not self._is_trusted(address):
            return address
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
        for hop in reversed([text.strip() for text in forwarded.split(",") if text.strip()]):
            address = hop[:64]
            if not self._is_trusted(address):
                break
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)
