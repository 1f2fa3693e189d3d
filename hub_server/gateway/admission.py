"""Who may be connected without having proven who they are: so many in all, so many an address, each for so long.

A connection is a guest from its acceptance until its peer is proven, or it ends. One sweep asks all guests what they
are slow with; there is no timer and no task for each. Over the bound, the guest that has been idle longest makes room
for the new one, and where none is idle, the new one is closed before its handshake costs anything.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, Protocol

import structlog

from hub_server.gateway.rest.addresses import Network, is_within

log = structlog.get_logger(component="admission")

SWEEP_SECONDS: Final = 0.5
ONE_SITE_PREFIX: Final = 64
EVICTED: Final = "evicted"


class Refused(StrEnum):
    """Why a connection was closed at once."""

    FULL = "full"
    ADDRESS_FULL = "address_full"


class Occupant(Protocol):
    """The open connection of a guest."""

    def idle_since(self) -> float | None:
        """Return since when it waits between two requests, None while it does not."""

    def overdue(self, now: float) -> str | None:
        """Return what it has been too slow with, None while it keeps its deadlines."""

    def abort(self) -> None: ...


class Guest:
    """One connection that is not proven. `occupant` is None until its handshake is over."""

    __slots__ = ("key", "occupant")

    def __init__(self, key: str) -> None:
        self.key: Final = key
        self.occupant: Occupant | None = None


class Admission:
    """`active_seconds`: time as the hub lived it, so that its own pauses cut nobody."""

    def __init__(
        self,
        *,
        connections: int,
        connections_per_address: int,
        trusted_proxies: Sequence[Network] = (),
        active_seconds: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._connections_per_address = connections_per_address
        self._trusted_proxies = tuple(trusted_proxies)
        self._by_key: dict[str, dict[Guest, None]] = {}
        self._count = 0
        self.active_seconds: Final = active_seconds
        self.refused: Final[Counter[str]] = Counter()
        self.cut: Final[Counter[str]] = Counter()

    def __len__(self) -> int:
        return self._count

    def admit(self, address: str) -> Guest | None:
        """Return a new guest, or None: then the connection is to be closed."""
        key = "" if is_within(address, self._trusted_proxies) else site_of(address)
        same_site = self._by_key.get(key, {})
        if key and len(same_site) >= self._connections_per_address and not self._evicted(same_site):
            self.refused[Refused.ADDRESS_FULL] += 1
            return None
        if self._count >= self._connections and not self._evicted(self._guests()):
            self.refused[Refused.FULL] += 1
            return None
        guest = Guest(key)
        self._by_key.setdefault(key, {})[guest] = None
        self._count += 1
        return guest

    def leave(self, guest: Guest) -> None:
        """Forget `guest`: proven, or gone. Again does nothing."""
        guest.occupant = None  # it holds its guest: only the garbage collector would free the two
        same_site = self._by_key.get(guest.key, {})
        if guest in same_site:
            del same_site[guest]
            self._count -= 1
        if not same_site:
            self._by_key.pop(guest.key, None)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Cut off every guest that is too slow."""
        now = self.active_seconds()
        for guest in list(self._guests()):
            slow_with = guest.occupant.overdue(now) if guest.occupant is not None else None
            if slow_with is not None:
                self._cut(guest, slow_with)

    def _guests(self) -> Iterable[Guest]:
        return (guest for same_site in self._by_key.values() for guest in same_site)

    def _evicted(self, guests: Iterable[Guest]) -> bool:
        """Cut off the one of `guests` that has been idle longest; False when none is idle."""
        longest: tuple[float, Guest] | None = None
        for guest in guests:
            since = guest.occupant.idle_since() if guest.occupant is not None else None
            if since is not None and (longest is None or since < longest[0]):
                longest = since, guest
        if longest is None:
            return False
        self._cut(longest[1], EVICTED)
        return True

    def _cut(self, guest: Guest, slow_with: str) -> None:
        self.cut[slow_with] += 1
        occupant = guest.occupant
        self.leave(guest)
        if occupant is not None:
            occupant.abort()


def site_of(address: str) -> str:
    """Return what is counted as one address: itself, or the /64 network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, ONE_SITE_PREFIX), strict=False))
