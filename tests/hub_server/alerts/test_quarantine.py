"""An alert for every agent in quarantine: raised, not doubled, made up for after a crash, and over with the release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from hub_server.alerts.engine import CLONE_SUSPECTED, QUARANTINE
from hub_server.alerts.service import AlertService
from hub_server.alerts.store import AlertStore
from hub_server.alerts.worker import TrustWorker
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.events import AgentTrustChanged, AlertChanged
from hub_server.storage.engine import Database
from protocol.enumerations import AgentTrust, AlertSeverity, AlertState
from protocol.operations import AlertsList, AlertsResolve
from tests.clocks import FakeClock
from tests.hub_server.alerts.builders import add_agent, principal_of
from tests.hub_server.alerts.test_service import Names


@dataclass(frozen=True)
class Outsider:
    id: str
    organisation_id: str
    trust: AgentTrust = AgentTrust.QUARANTINED
    trust_reason: str = "odd"


@pytest.fixture
def alerts(database: Database, bus: InProcessBus, clock: FakeClock) -> AlertService:
    return AlertService(database=database, bus=bus, clock=clock, store=AlertStore(), hosts=Names())


@pytest.fixture
async def agent(database: Database, organisation_id: str) -> Outsider:
    return Outsider(await add_agent(database, organisation_id), organisation_id)


@asynccontextmanager
async def working(
    bus: InProcessBus, alerts: AlertService, kept_out: Sequence[Outsider] = ()
) -> AsyncIterator[Subscription]:
    """The worker, and what it makes the alerts say."""
    worker = TrustWorker(bus=bus, alerts=alerts, kept_out=lambda: kept_out)
    with bus.subscribe(frozenset({"alerts"}), name="test", capacity=100, overflow=Overflow.DROP_OLDEST) as said:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(worker.run())
            await asyncio.sleep(0)  # it has subscribed
            yield said
            running.cancel()


def decided(agent: Outsider, trust: AgentTrust, *, by_hub: bool = False) -> AgentTrustChanged:
    return AgentTrustChanged(
        organisation_id=agent.organisation_id, agent_id=agent.id, trust=trust, reason="odd", by_hub=by_hub
    )


async def next_of(said: Subscription) -> tuple[str, AlertSeverity, AlertState]:
    (event,) = await said.batch(1)
    assert isinstance(event, AlertChanged)
    return event.type, event.severity, event.state


@pytest.mark.parametrize(
    ("by_hub", "kind", "severity"),
    [(False, QUARANTINE, AlertSeverity.WARNING), (True, CLONE_SUSPECTED, AlertSeverity.CRITICAL)],
)
@pytest.mark.parametrize("after", [AgentTrust.TRUSTED, AgentTrust.REVOKED])
async def test_a_quarantine_is_an_alert_until_it_is_over(
    bus: InProcessBus,
    alerts: AlertService,
    agent: Outsider,
    by_hub: bool,
    kind: str,
    severity: AlertSeverity,
    after: AgentTrust,
) -> None:
    async with working(bus, alerts) as said:
        for _ in range(2):  # told twice, raised once
            bus.publish(decided(agent, AgentTrust.QUARANTINED, by_hub=by_hub))
        assert await next_of(said) == (kind, severity, AlertState.OPEN)
        bus.publish(decided(agent, after))
        assert await next_of(said) == (kind, severity, AlertState.RESOLVED)
    assert not alerts.stands(agent.id, QUARANTINE)


async def test_a_quarantine_whose_alert_was_lost_in_a_crash_is_made_up_for_once(
    bus: InProcessBus, alerts: AlertService, agent: Outsider
) -> None:
    revoked = Outsider("gone", agent.organisation_id, AgentTrust.REVOKED)
    async with working(bus, alerts, [agent, revoked]) as said:
        assert await next_of(said) == (QUARANTINE, AlertSeverity.WARNING, AlertState.OPEN)
    person = principal_of(agent.organisation_id)
    (open_one,) = (await alerts.list(person, AlertsList())).alerts
    assert open_one.message == "In quarantine: odd"
    await alerts.resolve(person, AlertsResolve(alert_id=open_one.id))
    async with working(bus, alerts, [agent]) as said:
        bus.publish(decided(agent, AgentTrust.TRUSTED))  # a person had resolved it: nothing is said
        bus.publish(decided(agent, AgentTrust.QUARANTINED, by_hub=True))
        assert await next_of(said) == (CLONE_SUSPECTED, AlertSeverity.CRITICAL, AlertState.OPEN)
    assert (await alerts.list(person, AlertsList())).total == 2
