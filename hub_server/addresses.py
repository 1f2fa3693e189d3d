"""Hosts, ports and origins as settings name them."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from protocol.limits import AGENT_SOCKET_PATH


class HostPort(NamedTuple):
    host: str
    port: int


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_any(host: str) -> bool:
    return host in {"", "0.0.0.0", "::"}  # noqa: S104  a comparison; nothing is bound here


def reachable(host: str) -> str:
    """Return a name others can use for the address a listener has: the machine's own for all interfaces."""
    return socket.gethostname() if is_any(host) else host


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def host_port_of(url: str) -> HostPort:
    """Return host and port of `https://host:port` or `wss://host:port/ws/agents`."""
    parts = urlsplit(url)
    if parts.scheme not in {"https", "wss"} or not parts.hostname or parts.path not in {"", "/", AGENT_SOCKET_PATH}:
        raise ValueError(f"expected https://host:port, not {url!r}")
    return HostPort(parts.hostname, parts.port or 443)


def origin_of(url: str) -> str:
    """Return `url` as browsers write an origin: no path, no port that the scheme implies."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise ValueError(f"expected an origin as https://host or http://host:port, not {url!r}")
    implied = 443 if parts.scheme == "https" else 80
    port = "" if parts.port in {None, implied} else f":{parts.port}"
    return f"{parts.scheme}://{bracketed(parts.hostname)}{port}"
