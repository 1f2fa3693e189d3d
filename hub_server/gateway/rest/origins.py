"""Whose pages may use the hub: those the settings name, and the hub's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence, Set
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from hub_server.gateway.rest.addresses import UNKNOWN, Network, is_within

HTTPS: Final = "https"


class Origins:
    """`allowed`: origins as browsers write them. `trusted_proxies`: whose word for a page's address counts."""

    def __init__(self, allowed: Set[str], trusted_proxies: Sequence[Network] = ()) -> None:
        self._allowed = frozenset(allowed)
        self._trusted_proxies = tuple(trusted_proxies)

    def admits(self, origin: str | None, request: web.Request) -> bool:
        """Tell whether a page of `origin` may send `request`. Programs send no origin.

        A page under the address that the request came to is the hub's own, unless anybody could have given that
        address to the hub's machine: a name without TLS is worth nothing (DNS rebinding).
        """
        if origin is None or origin in self._allowed:
            return True
        is_by_proxy = is_within(request.remote or UNKNOWN, self._trusted_proxies)
        scheme = (is_by_proxy and _nearest(request, "X-Forwarded-Proto")) or request.scheme
        host = (is_by_proxy and _nearest(request, "X-Forwarded-Host")) or request.host
        return origin == f"{scheme}://{host}" and (is_by_proxy or scheme == HTTPS or _is_no_name(origin))


def _nearest(request: web.Request, header: str) -> str:
    """Return what the proxy before this hub said; proxies before that one may be anybody."""
    return ",".join(request.headers.getall(header, [])).rpartition(",")[2].strip()


def _is_no_name(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        return False
