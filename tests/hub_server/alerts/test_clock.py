"""An alert for every agent whose clock is far off: raised once, over when it is right, made up for after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from hub_server.alerts.engine import CLOCK, of_clock
from hub_server.alerts.service import AlertService
from hub_server.alerts.store import AlertStore
from hub_server.alerts.worker import ClockWorker
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.events import AlertChanged, ClockOffsetMeasured
from hub_server.storage.engine import Database
from protocol.enumerations import AlertSeverity, AlertState
from tests.clocks import FakeClock
from tests.hub_server.alerts.builders import add_agent
from tests.hub_server.alerts.test_service import Names

OPEN, RESOLVED = AlertState.OPEN, AlertState.RESOLVED


@pytest.fixture
def alerts(database: Database, bus: InProcessBus, clock: FakeClock) -> AlertService:
    return AlertService(database=database, bus=bus, clock=clock, store=AlertStore(), hosts=Names())


@asynccontextmanager
async def working(
    bus: InProcessBus, alerts: AlertService, judged: Sequence[ClockOffsetMeasured] = ()
) -> AsyncIterator[Subscription]:
    worker = ClockWorker(bus=bus, alerts=alerts, judged=lambda: judged)
    with bus.subscribe(frozenset({"alerts"}), name="test", capacity=100, overflow=Overflow.DROP_OLDEST) as said:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(worker.run())
            await asyncio.sleep(0)  # it has subscribed
            yield said
            running.cancel()


async def next_of(said: Subscription) -> tuple[str, AlertState, str]:
    [event] = await said.batch(1)
    assert isinstance(event, AlertChanged)
    assert (event.type, event.severity) == (CLOCK, AlertSeverity.WARNING)
    return event.type, event.state, event.message


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_wrong_clock_is_an_alert_until_it_is_right(
    database: Database, organisation_id: str, alerts: AlertService, bus: InProcessBus
) -> None:
    agent_id = await add_agent(database, organisation_id)

    def measured(offset_ms: int, *, skewed: bool) -> ClockOffsetMeasured:
        return ClockOffsetMeasured(
            organisation_id=organisation_id, agent_id=agent_id, offset_ms=offset_ms, skewed=skewed
        )

    async with working(bus, alerts) as said:
        bus.publish(measured(3, skewed=False))
        bus.publish(measured(-75_000, skewed=True))
        assert await next_of(said) == (CLOCK, OPEN, "The clock is 75 s behind the hub's")
    async with working(bus, alerts, [measured(-75_000, skewed=True)]) as said:  # told again: it stands already
        bus.publish(measured(900, skewed=False))
        assert (await next_of(said))[1] is RESOLVED
        assert not said.buffered
    async with working(bus, alerts, [measured(7_200_000, skewed=True)]) as said:
        assert await next_of(said) == (CLOCK, OPEN, "The clock is 2 h ahead of the hub's")


def test_how_far_a_clock_is_off_is_said_in_two_units() -> None:
    seconds = (61, 200, 5400, 7260, 200_000)
    effects = [of_clock(count * 1000, skewed=True) for count in seconds]
    told = [effect.message.split(" is ")[1].split(" ahead")[0] for effect in effects if hasattr(effect, "message")]
    assert told == ["61 s", "3 min 20 s", "90 min", "2 h 1 min", "2 d 7 h"]
