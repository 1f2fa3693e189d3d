"""Presence: statuses with a reason, and no false offline after the hub's own absence."""

from collections.abc import AsyncIterator

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.events import AgentConnected, AgentDisconnected
from hub_server.pauses import PauseMeter
from hub_server.presence.model import reason_of, status_of
from hub_server.presence.service import PresenceService
from hub_server.presence.store import PresenceStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AgentStatus, ConnectionReason
from protocol.limits import OFFLINE_AFTER_SECONDS
from tests.clocks import FakeClock


@pytest.fixture
def pauses(clock: FakeClock) -> PauseMeter:
    return PauseMeter(clock, lambda _lateness: None)


@pytest.fixture
async def heard(bus: InProcessBus) -> AsyncIterator[Subscription]:
    with bus.subscribe(frozenset({"presence"}), name="test", capacity=99, overflow=Overflow.DROP_OLDEST) as events:
        yield events


def a_presence(database: Database, bus: InProcessBus, clock: FakeClock, pauses: PauseMeter) -> PresenceService:
    return PresenceService(database=database, bus=bus, clock=clock, pauses=pauses, store=PresenceStore())


def live(clock: FakeClock, pauses: PauseMeter, seconds: float) -> None:
    """Let the hub live through `seconds` without a pause."""
    for _ in range(int(seconds)):
        clock.advance(1.0)
        pauses.tick()


async def test_an_agent_that_says_goodbye_is_offline_with_its_reason(
    database: Database, bus: InProcessBus, clock: FakeClock, pauses: PauseMeter, heard: Subscription
) -> None:
    presence = a_presence(database, bus, clock, pauses)
    presence.opened("o", "a", "web-01")
    assert status_of(presence.of("a")) is AgentStatus.ACTIVE
    presence.closed("a", ConnectionReason.SHUTDOWN)
    assert status_of(presence.of("a")) is AgentStatus.OFFLINE
    assert reason_of(presence.of("a")) == "shutdown"
    connected, disconnected = await heard.batch(9)
    assert isinstance(connected, AgentConnected)
    assert isinstance(disconnected, AgentDisconnected)
    assert (disconnected.hostname, disconnected.reason) == ("web-01", ConnectionReason.SHUTDOWN)


async def test_after_a_hub_restart_a_connected_agent_is_awaited_not_offline(
    database: Database, bus: InProcessBus, clock: FakeClock, pauses: PauseMeter
) -> None:
    before = a_presence(database, bus, clock, pauses)
    before.opened("o", "a", "web-01")
    before.opened("o", "b", "web-02")
    before.closed("b", ConnectionReason.SHUTDOWN)
    await before.save()

    after = a_presence(database, bus, clock, pauses)
    await after.load()
    assert status_of(after.of("a")) is AgentStatus.ACTIVE
    assert reason_of(after.of("a")) == "hub_away"
    assert status_of(after.of("b")) is AgentStatus.OFFLINE

    live(clock, pauses, OFFLINE_AFTER_SECONDS - 1)
    after.sweep()
    assert status_of(after.of("a")) is AgentStatus.ACTIVE
    live(clock, pauses, 2)
    after.sweep()
    assert (status_of(after.of("a")), reason_of(after.of("a"))) == (AgentStatus.OFFLINE, "silent")


async def test_a_freeze_of_the_hub_does_not_count_against_agents(
    database: Database, bus: InProcessBus, clock: FakeClock, pauses: PauseMeter
) -> None:
    before = a_presence(database, bus, clock, pauses)
    before.opened("o", "a", "web-01")
    await before.save()
    after = a_presence(database, bus, clock, pauses)
    await after.load()
    clock.advance(3600)
    after.sweep()
    assert status_of(after.of("a")) is AgentStatus.ACTIVE


async def test_a_reported_problem_shows_as_error_until_it_is_gone(
    database: Database, bus: InProcessBus, clock: FakeClock, pauses: PauseMeter
) -> None:
    presence = a_presence(database, bus, clock, pauses)
    presence.opened("o", "a", "web-01")
    presence.troubled("a", "collector_disk", present=True)
    assert (status_of(presence.of("a")), reason_of(presence.of("a"))) == (AgentStatus.ERROR, "collector_disk")
    presence.troubled("a", "collector_disk", present=False)
    assert status_of(presence.of("a")) is AgentStatus.ACTIVE


async def test_what_could_not_be_saved_is_saved_with_the_next_sweep(
    database: Database, bus: InProcessBus, clock: FakeClock, pauses: PauseMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PresenceStore()
    presence = PresenceService(database=database, bus=bus, clock=clock, pauses=pauses, store=store)
    presence.opened("o", "a", "web-01")

    async def failing(*_arguments: object) -> None:
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(store, "save", failing)
        with pytest.raises(TimeoutError):
            await presence.save()
    await presence.save()
    async with database.read(EVERY_ORGANISATION) as connection:
        assert [record.agent_id for record in await store.load_all(connection)] == ["a"]
