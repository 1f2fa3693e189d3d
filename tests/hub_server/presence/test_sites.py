"""Whole sites: told apart from single machines, and told once."""

from __future__ import annotations

import pytest

from hub_server.presence.service import AT_ONCE
from protocol.enumerations import ConnectionReason
from tests.clocks import FakeClock
from tests.hub_server.presence.fleet import ACTIVE, OFFLINE, Fleet, kinds

SILENT = (OFFLINE, "site_silent")
LOST = (OFFLINE, "connection_lost")


@pytest.fixture
def fleet(clock: FakeClock) -> Fleet:
    """Ten agents in Bern, two in Chur, five without a site."""
    fleet = Fleet(clock)
    for name, count in (("Bern", 10), ("Chur", 2), ("", 5)):
        for number in range(count):
            fleet.sites.of[f"{name}{number}"] = name
    fleet.open(*fleet.sites.of)
    return fleet


def bern(first: int, last: int) -> list[str]:
    return [f"Bern{number}" for number in range(first, last + 1)]


async def test_a_site_that_is_cut_off_is_silent_as_a_whole(fleet: Fleet) -> None:
    fleet.close(*bern(0, 3))
    fleet.live(10)
    fleet.close(*bern(4, 6), reason=ConnectionReason.SILENT)
    fleet.live(10)
    assert {fleet.shown(agent_id) for agent_id in bern(0, 3)} == {LOST}
    await fleet.happened()
    fleet.close("Bern7")
    fleet.live(1)
    assert {fleet.shown(agent_id) for agent_id in bern(0, 7)} == {SILENT}
    assert kinds(await fleet.happened()) == [("disconnected", "Bern7"), *(("changed", who) for who in bern(0, 7))]
    assert fleet.shown("Bern8") == fleet.shown("Chur0") == (ACTIVE, "")


async def test_who_follows_a_silent_site_is_silent_with_it_and_who_returns_is_there(fleet: Fleet) -> None:
    fleet.close(*bern(0, 8))
    fleet.live(120)
    fleet.close("Bern9")
    fleet.live(1)
    assert fleet.shown("Bern9") == SILENT
    fleet.open(*bern(0, 9))
    fleet.close(*bern(4, 9))
    fleet.live(1)
    assert fleet.shown("Bern0") == (ACTIVE, "")
    assert fleet.shown("Bern9") == LOST


async def test_losses_far_apart_or_few_are_of_single_machines(fleet: Fleet) -> None:
    for agent_id in bern(0, 7):
        fleet.close(agent_id)
        fleet.live(12)
    fleet.close("Chur0", "Chur1")
    fleet.live(1)
    assert {fleet.shown(agent_id) for agent_id in (*bern(0, 7), "Chur0", "Chur1")} == {LOST}


async def test_an_agent_that_came_back_is_not_counted_twice(clock: FakeClock) -> None:
    fleet = Fleet(clock)
    fleet.sites.of = dict.fromkeys("abcd", "Bern")
    fleet.open(*"abcd")
    fleet.close("a")
    fleet.open("a")
    fleet.close(*"bcd")
    fleet.live(1)
    assert fleet.shown("b") == LOST


async def test_agents_without_a_site_and_those_that_said_goodbye_are_no_silent_site(fleet: Fleet) -> None:
    fleet.close(*(f"{number}" for number in range(5)))
    fleet.close(*bern(0, 9), reason=ConnectionReason.SHUTDOWN)
    fleet.live(1)
    assert fleet.shown("0") == LOST
    assert fleet.shown("Bern0") == (OFFLINE, "shutdown")


async def test_a_site_that_moved_counts_where_it_is_now(fleet: Fleet) -> None:
    for agent_id in bern(0, 4):
        fleet.sites.of[agent_id] = "Basel"
    fleet.close(*bern(0, 4))
    fleet.live(1)
    assert fleet.shown("Bern0") == SILENT


async def test_a_huge_site_is_told_in_pieces(clock: FakeClock) -> None:
    fleet = Fleet(clock)
    agent_ids = [f"a{number}" for number in range(AT_ONCE + 10)]
    fleet.sites.of = dict.fromkeys(agent_ids, "Bern")
    fleet.open(*agent_ids)
    fleet.close(*agent_ids)
    fleet.live(1)
    assert sum(fleet.shown(agent_id) == SILENT for agent_id in agent_ids) == AT_ONCE
    fleet.live(1)
    assert {fleet.shown(agent_id) for agent_id in agent_ids} == {SILENT}
