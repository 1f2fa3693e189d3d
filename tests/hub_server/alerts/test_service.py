"""Alerts open, change, end and are resolved, once each, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import delete, select
from sqlmodel import col

from hub_server.alerts.service import AlertService
from hub_server.alerts.store import AlertStore
from hub_server.alerts.tables import AlertRow
from hub_server.alerts.worker import AlertWorker, newest_observations
from hub_server.audit.tables import AuditRow
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.errors import Forbidden, NotFound
from hub_server.events import AlertChanged, MetricsReceived
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AlertSeverity, AlertState, Lane, Role
from protocol.frames import MetricValue, RaisedAlert, Sample
from protocol.operations import AlertsList, AlertsResolve, AlertView, Thresholds
from tests.clocks import FakeClock
from tests.hub_server.alerts.builders import add_agent, default_thresholds, observation, principal_of

WARNING, CRITICAL = AlertSeverity.WARNING, AlertSeverity.CRITICAL


class Names:
    def hostname_of(self, organisation_id: str, agent_id: str) -> str:  # noqa: ARG002
        return f"host of {agent_id}"


class Defaults:
    def thresholds_of(self, agent_id: str) -> Thresholds:
        return default_thresholds(agent_id)


def service_on(database: Database, bus: InProcessBus, clock: FakeClock) -> AlertService:
    return AlertService(database=database, bus=bus, clock=clock, store=AlertStore(), hosts=Names())


@pytest.fixture
def alerts(database: Database, bus: InProcessBus, clock: FakeClock) -> AlertService:
    return service_on(database, bus, clock)


@pytest.fixture
async def agent_id(database: Database, organisation_id: str) -> str:
    return await add_agent(database, organisation_id)


@pytest.fixture
def changes(bus: InProcessBus) -> Iterator[Subscription]:
    with bus.subscribe(frozenset({"alerts"}), name="test", capacity=100, overflow=Overflow.DROP_OLDEST) as subscription:
        yield subscription


async def said(changes: Subscription) -> list[tuple[str, AlertSeverity, AlertState]]:
    events = await changes.batch(100) if changes.buffered else []
    assert all(isinstance(event, AlertChanged) for event in events)
    return [(event.type, event.severity, event.state) for event in events if isinstance(event, AlertChanged)]


async def observe(
    alerts: AlertService, organisation_id: str, agent_id: str, at_monotonic: float = 0.0, **data: MetricValue
) -> None:
    seen = observation(organisation_id, agent_id, data, at_monotonic=at_monotonic)
    await alerts.observe([seen], default_thresholds)


async def all_of(alerts: AlertService, organisation_id: str, state: AlertState | None = None) -> list[AlertView]:
    reply = await alerts.list(principal_of(organisation_id), AlertsList(state=state))
    assert reply.total == len(reply.alerts)
    return reply.alerts


async def test_an_alert_opens_changes_and_ends(
    alerts: AlertService, organisation_id: str, agent_id: str, changes: Subscription, clock: FakeClock
) -> None:
    await observe(alerts, organisation_id, agent_id, cpu_percent=85)
    await observe(alerts, organisation_id, agent_id, cpu_percent=86)
    assert alerts.open_counts(organisation_id) == {agent_id: 1}
    clock.advance(10)
    await observe(alerts, organisation_id, agent_id, cpu_percent=95)
    [alert] = await all_of(alerts, organisation_id)
    assert (alert.severity, alert.state, alert.message) == (CRITICAL, AlertState.OPEN, "CPU usage critical: 95.0%")
    assert alert.hostname == f"host of {agent_id}"
    clock.advance(10)
    await observe(alerts, organisation_id, agent_id, cpu_percent=5)
    [alert] = await all_of(alerts, organisation_id)
    assert (alert.state, alert.resolved_by, alert.resolved_at) == (AlertState.RESOLVED, "hub", clock.now())
    assert await said(changes) == [
        ("cpu", WARNING, AlertState.OPEN),
        ("cpu", CRITICAL, AlertState.OPEN),
        ("cpu", CRITICAL, AlertState.RESOLVED),
    ]
    assert alerts.open_counts(organisation_id) == {}
    assert alerts.open_total(organisation_id) == 0


async def test_a_resolved_alert_that_holds_stays_quiet_until_it_ceased(
    alerts: AlertService,
    organisation_id: str,
    agent_id: str,
    changes: Subscription,
    database: Database,
    bus: InProcessBus,
    clock: FakeClock,
) -> None:
    await observe(alerts, organisation_id, agent_id, memory_percent=85)
    [alert] = await all_of(alerts, organisation_id)
    reply = await alerts.resolve(principal_of(organisation_id), AlertsResolve(alert_id=alert.id))
    assert (reply.alert.state, reply.alert.resolved_by) == (AlertState.RESOLVED, "user:vera")
    assert alerts.open_total(organisation_id) == 0
    restarted = service_on(database, bus, clock)
    await restarted.load()
    for service in (alerts, restarted):
        await observe(service, organisation_id, agent_id, memory_percent=86)
    await said(changes)
    await observe(restarted, organisation_id, agent_id, memory_percent=20)
    assert await said(changes) == []
    await observe(restarted, organisation_id, agent_id, memory_percent=85)
    assert await said(changes) == [("memory", WARNING, AlertState.OPEN)]
    assert [kept.state for kept in await all_of(alerts, organisation_id)].count(AlertState.OPEN) == 1


async def test_a_resolved_alert_that_gets_worse_opens_anew(
    alerts: AlertService, organisation_id: str, agent_id: str, changes: Subscription, database: Database
) -> None:
    await observe(alerts, organisation_id, agent_id, cpu_percent=85)
    [alert] = await all_of(alerts, organisation_id)
    await alerts.resolve(principal_of(organisation_id), AlertsResolve(alert_id=alert.id))
    await observe(alerts, organisation_id, agent_id, cpu_percent=95)
    async with database.read(EVERY_ORGANISATION) as connection:
        holding = (await connection.scalars(select(col(AlertRow.severity)).where(col(AlertRow.holding)))).all()
    assert holding == [CRITICAL.value]
    await observe(alerts, organisation_id, agent_id, cpu_percent=5)
    await observe(alerts, organisation_id, agent_id, cpu_percent=85)
    assert await said(changes) == [
        ("cpu", WARNING, AlertState.OPEN),
        ("cpu", WARNING, AlertState.RESOLVED),
        ("cpu", CRITICAL, AlertState.OPEN),
        ("cpu", CRITICAL, AlertState.RESOLVED),
        ("cpu", WARNING, AlertState.OPEN),
    ]


async def test_resolving_twice_changes_nothing(
    alerts: AlertService,
    organisation_id: str,
    agent_id: str,
    changes: Subscription,
    clock: FakeClock,
    database: Database,
) -> None:
    await observe(alerts, organisation_id, agent_id, cpu_percent=85)
    [alert] = await all_of(alerts, organisation_id)
    first = await alerts.resolve(principal_of(organisation_id), AlertsResolve(alert_id=alert.id))
    clock.advance(60)
    second = await alerts.resolve(principal_of(organisation_id), AlertsResolve(alert_id=alert.id))
    assert first == second
    assert len(await said(changes)) == 2
    async with database.read(EVERY_ORGANISATION) as connection:
        audit = (await connection.execute(select(AuditRow))).all()
    assert [(row.actor, row.action, row.target) for row in audit] == [
        ("user:vera", "alerts:resolve", f"alert:{alert.id}")
    ]


async def test_only_those_who_may_resolve_do(alerts: AlertService, organisation_id: str, agent_id: str) -> None:
    await observe(alerts, organisation_id, agent_id, cpu_percent=85)
    [alert] = await all_of(alerts, organisation_id)
    with pytest.raises(Forbidden):
        await alerts.resolve(principal_of(organisation_id, Role.VIEWER), AlertsResolve(alert_id=alert.id))
    with pytest.raises(NotFound) as refusal:
        await alerts.resolve(principal_of("another"), AlertsResolve(alert_id=alert.id))
    assert refusal.value.path == "$.alertId"
    assert await all_of(alerts, "another") == []
    [unchanged] = await all_of(alerts, organisation_id)
    assert unchanged == alert


async def test_open_alerts_are_known_after_a_restart(
    alerts: AlertService,
    organisation_id: str,
    agent_id: str,
    changes: Subscription,
    database: Database,
    bus: InProcessBus,
    clock: FakeClock,
) -> None:
    await observe(alerts, organisation_id, agent_id, cpu_percent=85, disk_percent=99)
    restarted = service_on(database, bus, clock)
    await restarted.load()
    assert restarted.open_counts(organisation_id) == {agent_id: 2}
    await observe(restarted, organisation_id, agent_id, cpu_percent=85, disk_percent=99)
    assert len(await said(changes)) == 2


async def test_two_writers_open_one_alert(
    alerts: AlertService,
    organisation_id: str,
    agent_id: str,
    changes: Subscription,
    database: Database,
    bus: InProcessBus,
    clock: FakeClock,
) -> None:
    other_hub = service_on(database, bus, clock)
    async with asyncio.TaskGroup() as tasks:
        for service in (alerts, other_hub):
            tasks.create_task(observe(service, organisation_id, agent_id, cpu_percent=85), name="observe")
    assert await said(changes) == [("cpu", WARNING, AlertState.OPEN)]
    [alert] = await all_of(alerts, organisation_id)
    for service in (alerts, other_hub):
        assert service.open_counts(organisation_id) == {agent_id: 1}
        await observe(service, organisation_id, agent_id, cpu_percent=95)
    [after] = await all_of(alerts, organisation_id)
    assert (after.id, after.severity) == (alert.id, CRITICAL)


async def test_an_agent_that_was_deleted_harms_no_other(
    alerts: AlertService, organisation_id: str, agent_id: str, changes: Subscription, database: Database
) -> None:
    deleted = await add_agent(database, organisation_id)
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(AgentRow).where(col(AgentRow.id) == deleted))
    seen = [observation(organisation_id, name, {"cpu_percent": 99}) for name in (deleted, agent_id)]
    await alerts.observe(seen, default_thresholds)
    assert len(await said(changes)) == 1
    assert alerts.open_counts(organisation_id) == {agent_id: 1}


async def test_lists_are_filtered_newest_first_and_paged(
    alerts: AlertService, organisation_id: str, agent_id: str, database: Database, clock: FakeClock
) -> None:
    second = await add_agent(database, organisation_id)
    for name in (agent_id, second):
        await observe(alerts, organisation_id, name, cpu_percent=85)
        clock.advance(1)
    await observe(alerts, organisation_id, agent_id, cpu_percent=1, disk_percent=80)
    principal = principal_of(organisation_id)
    everything = await all_of(alerts, organisation_id)
    assert [alert.type for alert in everything] == ["disk", "cpu", "cpu"]
    of_agent = await alerts.list(principal, AlertsList(agent_id=agent_id, state=AlertState.RESOLVED))
    assert [(alert.agent_id, alert.type) for alert in of_agent.alerts] == [(agent_id, "cpu")]
    page = await alerts.list(principal, AlertsList(limit=1, offset=1))
    assert (page.alerts, page.total) == ([everything[1]], 3)


async def test_what_a_frame_raised_is_known_for_its_acknowledgement(
    alerts: AlertService, organisation_id: str, agent_id: str
) -> None:
    await observe(alerts, organisation_id, agent_id, at_monotonic=10.0, disk_percent=78.5)
    raised = RaisedAlert(type="disk", severity=WARNING, message="Disk usage high: 78.5%")
    assert list(alerts.raised_since(agent_id, 10.0)) == [raised]
    assert list(alerts.raised_since(agent_id, 10.1)) == []
    assert list(alerts.raised_since("another", 0.0)) == []


async def test_a_forgotten_agent_counts_no_more(alerts: AlertService, organisation_id: str, agent_id: str) -> None:
    await observe(alerts, organisation_id, agent_id, disk_percent=99)
    alerts.forget(agent_id)
    assert alerts.open_total(organisation_id) == 0
    assert list(alerts.raised_since(agent_id, 0.0)) == []


def event(organisation_id: str, agent_id: str, *samples: Sample, lane: Lane = Lane.LIVE) -> MetricsReceived:
    return MetricsReceived(
        organisation_id=organisation_id,
        agent_id=agent_id,
        lane=lane,
        epoch=1,
        samples=list(samples),
        received_monotonic=5.0,
    )


def cpu(seq: int, percent: float) -> Sample:
    return Sample(seq=seq, ts=seq, metric_type="system", metric_data={"cpu_percent": percent})


def disk(seq: int, percent: float) -> Sample:
    return Sample(seq=seq, ts=seq, metric_type="system", metric_data={"disk_percent": percent})


async def test_the_worker_opens_alerts_for_live_samples_only(
    alerts: AlertService, organisation_id: str, agent_id: str, changes: Subscription, bus: InProcessBus
) -> None:
    worker = AlertWorker(bus=bus, alerts=alerts, settings=Defaults())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(worker.run(), name="alerts")
        await asyncio.sleep(0)
        bus.publish(event(organisation_id, agent_id, disk(1, 99), lane=Lane.BACKFILL))
        bus.publish(event(organisation_id, agent_id, cpu(2, 85)))
        async with asyncio.timeout(30):
            [change] = await changes.batch(10)
        running.cancel()
    assert isinstance(change, AlertChanged)
    assert (change.type, change.severity) == ("cpu", WARNING)


def test_backfilled_samples_are_history() -> None:
    assert newest_observations([event("o", "a", cpu(1, 99), lane=Lane.BACKFILL)]) == []


def test_a_worker_that_is_behind_looks_at_the_newest_sample_of_each_type() -> None:
    security = Sample(seq=3, ts=3, metric_type="security", metric_data={"firewall_enabled": False})
    seen = newest_observations([event("o", "a", cpu(1, 99), security, cpu(2, 5)), event("o", "b", cpu(1, 50))])
    assert [(found.agent_id, found.sample.metric_type, found.sample.seq) for found in seen] == [
        ("a", "system", 2),
        ("a", "security", 3),
        ("b", "system", 1),
    ]
