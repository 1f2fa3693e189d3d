"""Presence: statuses with a reason, and no false offline after the hub's own absence."""

from __future__ import annotations

import gc
from datetime import timedelta

import pytest

from hub_server.presence.engine import patience_seconds
from hub_server.presence.model import PresenceRecord
from hub_server.presence.service import RELEASED, SAVED_AT_ONCE
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import ConnectionReason
from protocol.limits import BACKOFF_MAX_SECONDS, OFFLINE_AFTER_SECONDS
from tests.clocks import FakeClock
from tests.hub_server.presence.fleet import ACTIVE, ERROR, OFFLINE, Fleet, kinds

DAY_SECONDS = 86_400


@pytest.fixture
def fleet(clock: FakeClock) -> Fleet:
    return Fleet(clock)


@pytest.fixture
def stored(clock: FakeClock, database: Database) -> Fleet:
    return Fleet(clock, database)


@pytest.mark.parametrize("reason", ["shutdown", "restart", "update", "operator", "sleep"])
async def test_an_agent_that_says_goodbye_is_offline_with_its_reason(fleet: Fleet, reason: str) -> None:
    fleet.open("a")
    assert fleet.shown("a") == (ACTIVE, "")
    fleet.close("a", reason=ConnectionReason(reason))
    assert fleet.shown("a") == (OFFLINE, reason)
    assert kinds(await fleet.happened()) == [("connected", "a"), ("disconnected", "a")]


async def test_a_goodbye_counts_also_right_after_a_freeze(fleet: Fleet) -> None:
    fleet.open("a")
    fleet.freeze(60)
    fleet.close("a", reason=ConnectionReason.SHUTDOWN)
    assert fleet.shown("a") == (OFFLINE, "shutdown")


async def test_an_agent_that_gave_up_a_frozen_hub_is_awaited(fleet: Fleet) -> None:
    fleet.open("a", "b")
    fleet.live(30)
    fleet.freeze(60)
    fleet.close("a", "b")
    assert fleet.shown("a") == fleet.shown("b") == (ACTIVE, "hub_away")
    fleet.live(OFFLINE_AFTER_SECONDS - 1)
    fleet.open("b")
    assert fleet.shown("a") == (ACTIVE, "hub_away")
    assert await fleet.disconnections() == {}
    fleet.live(2)
    assert fleet.shown("a") == (OFFLINE, "silent")
    assert fleet.shown("b") == (ACTIVE, "")
    assert await fleet.disconnections() == {"a": "silent"}


async def test_an_agent_that_came_and_went_while_the_hub_caught_up_is_awaited(fleet: Fleet) -> None:
    fleet.open("survived")
    fleet.freeze(60)
    fleet.live(1)
    fleet.open("came")
    fleet.live(1)
    fleet.close("came")
    assert fleet.shown("came") == (ACTIVE, "hub_away")
    fleet.live(OFFLINE_AFTER_SECONDS + 1)
    assert fleet.shown("came") == (OFFLINE, "silent")
    fleet.close("survived")
    assert fleet.shown("survived") == (OFFLINE, "connection_lost")


async def test_a_short_halt_excuses_nobody(fleet: Fleet) -> None:
    fleet.open("a")
    fleet.freeze(4)
    fleet.close("a")
    assert fleet.shown("a") == (OFFLINE, "connection_lost")


async def test_an_agent_whose_session_the_hub_broke_is_awaited(fleet: Fleet) -> None:
    fleet.open("a")
    fleet.close("a", reason=ConnectionReason.HUB_AWAY)
    assert fleet.shown("a") == (ACTIVE, "hub_away")
    fleet.freeze(600)  # which does not count against it
    fleet.live(OFFLINE_AFTER_SECONDS - 2)
    assert fleet.shown("a") == (ACTIVE, "hub_away")


async def test_a_jump_of_the_wall_clock_changes_no_presence(stored: Fleet) -> None:
    stored.open("a", "b")
    await stored.presence.save()
    fleet = await stored.restarted()
    fleet.open("b")
    await fleet.happened()
    for seconds in (DAY_SECONDS, -2 * DAY_SECONDS, 7200):
        fleet.clock.jump(seconds)
        fleet.live(5)
        fleet.presence.heard("b")
    assert fleet.shown("a") == (ACTIVE, "hub_away")
    assert fleet.shown("b") == (ACTIVE, "")
    assert await fleet.happened() == []
    fleet.live(OFFLINE_AFTER_SECONDS)
    assert await fleet.disconnections() == {"a": "silent"}


async def test_after_a_restart_those_who_were_there_are_awaited_and_a_goodbye_is_kept(stored: Fleet) -> None:
    stored.open("a", "b", "deleted")
    stored.close("b", reason=ConnectionReason.SHUTDOWN)
    await stored.presence.save()
    stored.sites.gone.add("deleted")
    gone_at = stored.clock.now()
    stored.clock.advance(40)

    after = await stored.restarted()
    assert after.shown("a") == (ACTIVE, "hub_away")
    assert after.shown("b") == (OFFLINE, "shutdown")
    assert after.presence.last_seen_at("b") == after.presence.of("b").since == gone_at
    assert after.presence.tally("o")[ACTIVE] == 1

    after.live(OFFLINE_AFTER_SECONDS - 1)
    assert after.shown("a") == (ACTIVE, "hub_away")
    after.live(2)
    assert after.shown("a") == (OFFLINE, "silent")
    assert await after.disconnections() == {"a": "silent"}


async def test_a_long_absence_of_the_hub_is_answered_with_longer_patience(stored: Fleet) -> None:
    """The agents' attempts are far apart by then."""
    stored.open("a")
    await stored.presence.save()
    stored.clock.advance(3600)
    after = await stored.restarted()
    after.live(BACKOFF_MAX_SECONDS)
    assert after.shown("a") == (ACTIVE, "hub_away")
    after.live(patience_seconds(3600) - BACKOFF_MAX_SECONDS + 1)
    assert after.shown("a") == (OFFLINE, "silent")


def test_patience_has_two_bounds() -> None:
    assert patience_seconds(-DAY_SECONDS) == patience_seconds(60) == OFFLINE_AFTER_SECONDS
    assert patience_seconds(120) == 180
    assert patience_seconds(DAY_SECONDS) < 1200


async def test_what_is_kept_out_says_why(stored: Fleet) -> None:
    stored.presence.refused("o", "a", "host-a", "in quarantine", returns_soon=False)
    assert stored.shown("a") == (OFFLINE, "refused: in quarantine")
    assert kinds(await stored.happened()) == [("changed", "a")]
    stored.presence.refused("o", "a", "host-a", "in quarantine", returns_soon=False)
    assert await stored.happened() == []
    await stored.presence.save()
    assert (await stored.restarted()).shown("a") == (OFFLINE, "refused: in quarantine")
    stored.presence.released("a")
    assert stored.shown("a") == (OFFLINE, f"refused: {RELEASED}")
    stored.open("a")
    stored.close("a")
    assert stored.shown("a") == (OFFLINE, "connection_lost")


async def test_another_reason_does_not_make_a_status_newer(fleet: Fleet) -> None:
    fleet.open("a")
    fleet.close("a")
    offline_since = fleet.clock.now()
    fleet.live(10)
    fleet.presence.refused("o", "a", "host-a", "in quarantine", returns_soon=False)
    assert fleet.presence.of("a").since == offline_since


async def test_an_old_copy_that_is_refused_says_nothing_of_the_agent_that_is_there(fleet: Fleet) -> None:
    fleet.open("a")
    await fleet.happened()
    fleet.presence.refused("o", "a", "host-a", "it shows an older certificate", returns_soon=False)
    assert fleet.shown("a") == (ACTIVE, "")
    assert await fleet.happened() == []


async def test_an_awaited_agent_that_fails_once_is_still_awaited(stored: Fleet) -> None:
    stored.open("a", "b")
    await stored.presence.save()
    fleet = await stored.restarted()
    for agent_id, returns_soon in (("a", True), ("b", False)):
        fleet.presence.refused("o", agent_id, "host", "it sent no hello", returns_soon=returns_soon)
    assert fleet.shown("a") == (ACTIVE, "hub_away")
    assert fleet.shown("b") == (OFFLINE, "refused: it sent no hello")
    assert await fleet.disconnections() == {"b": "refused"}


async def test_a_reported_problem_shows_as_error_until_it_is_gone(fleet: Fleet) -> None:
    fleet.open("a")
    began = fleet.presence.of("a").since
    fleet.live(60)
    fleet.presence.troubled("a", "collector_disk", present=True)
    assert fleet.shown("a") == (ERROR, "collector_disk")
    assert began is not None
    assert fleet.presence.of("a").since == began + timedelta(seconds=60)
    assert [fleet.presence.tally("o")[status] for status in (ACTIVE, ERROR, OFFLINE)] == [0, 1, 0]
    fleet.presence.troubled("a", "collector_disk", present=False)
    assert fleet.shown("a") == (ACTIVE, "")
    fleet.presence.forget("a")
    assert not any(fleet.presence.tally("o").values())


async def test_when_it_was_heard_is_known_to_a_second_and_written_in_turns(stored: Fleet) -> None:
    agent_ids = [f"a{number}" for number in range(12)]
    stored.open(*agent_ids)
    await stored.presence.save()
    stored.live(30)
    for agent_id in agent_ids:
        stored.presence.heard(agent_id)
    assert stored.presence.last_seen_at("a3") == stored.clock.now()
    for turn in range(1, 5):
        stored.presence.refresh(0.25)
        await stored.presence.save()
        seen = {record.agent_id: record.last_seen_at for record in await records_of(stored)}
        assert sum(at == stored.clock.now() for at in seen.values()) == min(12, turn * 4)


async def test_what_could_not_be_saved_is_saved_next_time(stored: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    count = SAVED_AT_ONCE + 5
    stored.open(*(f"a{number}" for number in range(count)))

    async def failing(*_arguments: object) -> None:
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(stored.store, "save", failing)
        with pytest.raises(TimeoutError):
            await stored.presence.save()
    await stored.presence.save()
    assert len(await records_of(stored)) == count


def test_an_agent_costs_the_garbage_collector_nothing(fleet: Fleet) -> None:
    fleet.open(*(f"a{number}" for number in range(100)))
    before = len(gc.get_objects())
    fleet.open(*(f"a{number}" for number in range(100, 1100)))
    assert len(gc.get_objects()) - before < 100


async def records_of(fleet: Fleet) -> list[PresenceRecord]:
    async with fleet.database.read(EVERY_ORGANISATION) as connection:
        return await fleet.store.load_all(connection)
