"""Keeps the tests on this machine: a connection to any other address fails the test that tries it."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any


class LeftTheMachine(AssertionError):
    """A test tried to reach another machine."""


def stay_on_loopback() -> None:
    """Refuse every connection of this process beyond loopback, for good: an audit hook cannot be taken out."""
    sys.addaudithook(_refuse_strangers)


def is_local(address: object) -> bool:
    """Unix sockets and loopback addresses are local; a name other than localhost is not."""
    if not isinstance(address, tuple) or not address:
        return True
    host = str(address[0])
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse_strangers(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto"} and not is_local(arguments[1]):
        raise LeftTheMachine(f"a test tried to reach {arguments[1]!r}")
