"""An alert for every machine that is not as its policies expect, as long as it is not."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.access.model import Principal
from hub_server.alerts.engine import COMPLIANCE, Cease, Raise, of_compliance
from hub_server.alerts.service import AlertService
from hub_server.alerts.store import AlertStore
from hub_server.alerts.worker import ComplianceWorker
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.events import AlertChanged, ComplianceChanged
from hub_server.storage.engine import Database
from protocol.enumerations import AlertSeverity, AlertState, Role
from protocol.operations import AlertsResolve
from tests.clocks import FakeClock
from tests.hub_server.alerts.builders import add_agent
from tests.hub_server.alerts.test_service import Names


def test_only_failures_of_severity_error_and_above_are_worth_an_alert() -> None:
    effects = {severity: of_compliance(severity) for severity in (None, *AlertSeverity)}
    assert {severity for severity, effect in effects.items() if isinstance(effect, Raise)} == {
        AlertSeverity.ERROR,
        AlertSeverity.CRITICAL,
    }
    assert effects[AlertSeverity.WARNING] == Cease(COMPLIANCE)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_alert_is_open_until_the_machine_is_as_expected(
    database: Database, organisation_id: str, bus: InProcessBus, clock: FakeClock
) -> None:
    agent_id = await add_agent(database, organisation_id)
    alerts = AlertService(database=database, bus=bus, clock=clock, store=AlertStore(), hosts=Names())

    person = Principal(user_id="u", username="ada", organisation_id=organisation_id, role=Role.OPERATOR)

    def judged(severity: AlertSeverity | None) -> None:
        bus.publish(ComplianceChanged(organisation_id=organisation_id, agent_id=agent_id, severity=severity))

    with bus.subscribe(frozenset({"alerts"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as said:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(ComplianceWorker(bus=bus, alerts=alerts).run())
            await asyncio.sleep(0)  # it has subscribed
            judged(None)
            judged(AlertSeverity.CRITICAL)
            [raised] = await said.batch(1)
            assert isinstance(raised, AlertChanged)
            await alerts.resolve(person, AlertsResolve(alert_id=raised.alert_id))
            judged(AlertSeverity.ERROR)  # still the same alert, which a person resolved
            judged(AlertSeverity.WARNING)
            judged(AlertSeverity.CRITICAL)
            events = [raised, *await said.batch(1), *await said.batch(1)]
            running.cancel()
    assert [(event.type, event.severity, event.state) for event in events if isinstance(event, AlertChanged)] == [
        (COMPLIANCE, AlertSeverity.CRITICAL, AlertState.OPEN),
        (COMPLIANCE, AlertSeverity.CRITICAL, AlertState.RESOLVED),
        (COMPLIANCE, AlertSeverity.CRITICAL, AlertState.OPEN),
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_the_database_does_not_take_at_once_is_tried_again(
    database: Database, organisation_id: str, bus: InProcessBus, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.alerts.worker.RETRY_FIRST_SECONDS", 0)
    failures = iter([PoolTimeout(), OSError("away")])

    class Struggling(AlertService):
        async def apply(self, organisation_id: str, agent_id: str, effect: Raise | Cease) -> None:
            for failure in failures:
                raise failure
            await super().apply(organisation_id, agent_id, effect)

    alerts = Struggling(database=database, bus=bus, clock=clock, store=AlertStore(), hosts=Names())
    agent_id = await add_agent(database, organisation_id)
    with bus.subscribe(frozenset({"alerts"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as said:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(ComplianceWorker(bus=bus, alerts=alerts).run(), name="worker")
            await asyncio.sleep(0)  # it has subscribed
            bus.publish(
                ComplianceChanged(organisation_id=organisation_id, agent_id=agent_id, severity=AlertSeverity.CRITICAL)
            )
            assert len(await said.batch(1)) == 1
            running.cancel()
    assert alerts.stands(agent_id, COMPLIANCE)
