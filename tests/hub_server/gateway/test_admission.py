"""How many may be connected without proof, and which of them make room."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from hub_server.gateway.admission import Admission, Guest, site_of


@dataclass
class Connection:
    """A guest's connection: idle since then, slow with that."""

    idle: float | None = None
    slow_with: str | None = None
    aborted: bool = False

    def idle_since(self) -> float | None:
        return self.idle

    def overdue(self, now: float) -> str | None:  # noqa: ARG002  the port's
        return self.slow_with

    def abort(self) -> None:
        self.aborted = True


def admission(connections: int = 100, per_address: int = 2) -> Admission:
    return Admission(
        connections=connections,
        connections_per_address=per_address,
        trusted_proxies=(ip_network("192.0.2.0/24"),),
        active_seconds=lambda: 0.0,
    )


def entered(guests: Admission, address: str, connection: Connection | None = None) -> Guest:
    guest = guests.admit(address)
    assert guest is not None
    guest.occupant = connection
    return guest


def test_an_address_has_so_many_and_no_more() -> None:
    guests = admission()
    first = entered(guests, "127.0.0.1")
    entered(guests, "127.0.0.1")
    assert guests.admit("127.0.0.1") is None
    assert guests.refused == {"address_full": 1}
    entered(guests, "127.0.0.2")
    guests.leave(first)
    guests.leave(first)
    assert len(guests) == 2
    entered(guests, "127.0.0.1")
    assert guests.admit("127.0.0.1") is None


def test_all_together_have_so_many_and_no_more() -> None:
    guests = admission(connections=3)
    for number in range(3):
        entered(guests, f"127.0.0.{number}")
    assert guests.admit("127.0.0.9") is None
    assert guests.refused == {"full": 1}


def test_a_trusted_proxy_brings_as_many_as_all_together_may() -> None:
    guests = admission(connections=5)
    for _ in range(5):
        entered(guests, "192.0.2.7")
    assert guests.admit("192.0.2.7") is None
    assert guests.refused == {"full": 1}


def test_who_has_been_idle_longest_makes_room() -> None:
    guests = admission()
    older, newer = Connection(idle=1.0), Connection(idle=2.0)
    entered(guests, "127.0.0.1", newer)
    entered(guests, "127.0.0.1", older)
    entered(guests, "127.0.0.1", Connection())
    assert (older.aborted, newer.aborted) == (True, False)
    assert (len(guests), guests.cut, guests.refused) == (2, {"evicted": 1}, {})


def test_an_address_does_not_make_room_for_itself_at_the_cost_of_others() -> None:
    guests = admission()
    other = Connection(idle=1.0)
    entered(guests, "127.0.0.2", other)
    entered(guests, "127.0.0.1", Connection())
    entered(guests, "127.0.0.1", Connection())
    assert guests.admit("127.0.0.1") is None
    assert not other.aborted


def test_the_sweep_cuts_the_slow_and_only_them() -> None:
    guests = admission()
    slow, quick = Connection(slow_with="headers"), Connection()
    entered(guests, "127.0.0.1", slow)
    entered(guests, "127.0.0.1", quick)
    entered(guests, "127.0.0.2")  # in its handshake still
    guests.sweep()
    assert (slow.aborted, quick.aborted) == (True, False)
    assert (len(guests), guests.cut) == (2, {"headers": 1})


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%lo", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_network_is_one_address(address: str, site: str) -> None:
    assert site_of(address) == site
