"""What can be asked of alerts, and what samples do to them. Those whose condition holds are also in memory."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, assert_never

import msgspec
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.alerts.engine import Cease, ChangeSeverity, Effect, Raise, evaluate
from hub_server.alerts.model import Alert, Observation, Standing, Subject, standing_of
from hub_server.alerts.store import AlertStore
from hub_server.audit.record import record
from hub_server.bus.port import Bus
from hub_server.clock import Clock
from hub_server.errors import NotFound
from hub_server.events import AlertChanged
from hub_server.storage.engine import EVERY_ORGANISATION, Database, scope_of
from protocol.enumerations import AlertState
from protocol.frames import RaisedAlert
from protocol.operations import (
    AlertsList,
    AlertsListReply,
    AlertsResolve,
    AlertsResolveReply,
    AlertView,
    Thresholds,
)

log = structlog.get_logger(component="alerts")

RECENT_PER_AGENT: Final = 16
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class Hosts(Protocol):
    """Names of machines."""

    def hostname_of(self, organisation_id: str, agent_id: str) -> str: ...


class ThresholdsOf(Protocol):
    def __call__(self, agent_id: str) -> Thresholds: ...


class Change(msgspec.Struct, frozen=True):
    """What one effect did: how the key stands after it (None: not at all), and what is said of it."""

    subject: Subject
    key: str
    standing: Standing | None
    event: AlertChanged | None
    raised: RaisedAlert | None = None


class AlertService:
    def __init__(self, *, database: Database, bus: Bus, clock: Clock, store: AlertStore, hosts: Hosts) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._hosts = hosts
        self._changing = asyncio.Lock()
        self._standing: dict[str, dict[str, Standing]] = {}
        self._open: dict[str, dict[str, int]] = {}
        self._recent: dict[str, deque[tuple[float, RaisedAlert]]] = {}

    async def load(self) -> None:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            for alert in await self._store.load_standing(connection):
                self._keep(alert.organisation_id, alert.agent_id, alert.key, standing_of(alert))

    async def list(self, principal: Principal, request: AlertsList) -> AlertsListReply:
        organisation_id = authorize(principal, Permission.FLEET_READ)
        alerts, total = await self._database.consult(
            organisation_id, lambda connection: self._store.page(connection, organisation_id, request)
        )
        return AlertsListReply(
            alerts=[self._view(alert) for alert in alerts], total=total, limit=request.limit, offset=request.offset
        )

    async def resolve(self, principal: Principal, request: AlertsResolve) -> AlertsResolveReply:
        """Resolve an alert; one that is resolved already stays as it is."""
        organisation_id = authorize(principal, Permission.ALERTS_RESOLVE)
        async with self._changing:
            alert, changed = await self._resolve(principal, organisation_id, request.alert_id)
            if changed:
                held = self._standing.get(alert.agent_id, {}).get(alert.key)
                if held is not None and held.alert_id == alert.id:
                    self._keep(organisation_id, alert.agent_id, alert.key, standing_of(alert))
        if changed:
            self._bus.publish(_event(organisation_id, alert.agent_id, standing_of(alert), self._clock))
        return AlertsResolveReply(alert=self._view(alert))

    def open_counts(self, organisation_id: str) -> Mapping[str, int]:
        """Return how many alerts are open, by agent; agents without any are left out."""
        return self._open.get(organisation_id, _NONE)

    def open_total(self, organisation_id: str) -> int:
        return sum(self.open_counts(organisation_id).values())

    def raised_since(self, agent_id: str, monotonic: float) -> Sequence[RaisedAlert]:
        """Return what samples that were received at `monotonic` or later have raised or made more or less severe."""
        return [alert for received, alert in self._recent.get(agent_id, ()) if received >= monotonic]

    def forget(self, agent_id: str) -> None:
        self._standing.pop(agent_id, None)
        self._recent.pop(agent_id, None)
        for counts in self._open.values():
            counts.pop(agent_id, None)

    async def observe(self, observations: Sequence[Observation], thresholds_of: ThresholdsOf) -> None:
        """Apply the rules to fresh samples: all changes in one transaction, said after its commit.

        When the database fails nothing has changed, and the next samples lead to the same changes.
        """
        if not any(self._effects(observation, thresholds_of) for observation in observations):
            return
        async with self._changing:
            effects: list[tuple[Subject, Effect]] = [
                (observation, effect)
                for observation in observations
                for effect in self._effects(observation, thresholds_of)
            ]
            try:
                await self._apply(effects)
            except IntegrityError:
                await self._apply_apart(effects)

    async def apply(self, organisation_id: str, agent_id: str, effect: Raise | Cease) -> None:
        """Raise or end an alert that no sample is the cause of; one that is open is not raised again."""
        subject = Subject(
            organisation_id=organisation_id, agent_id=agent_id, received_monotonic=self._clock.monotonic()
        )
        async with self._changing:
            held = self._standing.get(agent_id, {}).get(effect.key)
            if isinstance(effect, Cease) or held is None or not held.is_open:
                await self._apply_apart([(subject, effect)])

    def stands(self, agent_id: str, key: str) -> bool:
        """Tell whether the agent has an alert of this key that is open, or that a person resolved while it holds."""
        return key in self._standing.get(agent_id, {})

    def _effects(self, observation: Observation, thresholds_of: ThresholdsOf) -> Sequence[Effect]:
        sample = observation.sample
        standing = self._standing.get(observation.agent_id, {})
        return evaluate(thresholds_of(observation.agent_id), sample.metric_type, sample.metric_data, standing)

    async def _apply_apart(self, effects: Sequence[tuple[Subject, Effect]]) -> None:
        """One by one, so that an agent which was deleted meanwhile harms no other."""
        for subject, effect in effects:
            try:
                await self._apply([(subject, effect)])
            except IntegrityError:
                log.warning("alert of an agent that is gone", agent_id=subject.agent_id, key=effect.key)

    async def _apply(self, effects: Sequence[tuple[Subject, Effect]]) -> None:
        async with self._database.write(scope_of(subject.organisation_id for subject, _ in effects)) as connection:
            changes = [await self._change(connection, subject, effect) for subject, effect in effects]
        for change in changes:
            if change is not None:
                self._settle(change)

    async def _change(self, connection: AsyncConnection, subject: Subject, effect: Effect) -> Change | None:
        """Return what changed; None when the agent was deleted since the rules were applied."""
        held = self._standing.get(subject.agent_id, {}).get(effect.key)
        match effect:
            case Raise():
                return await self._raise(connection, subject, effect, held)
            case ChangeSeverity():
                return None if held is None else await self._change_severity(connection, subject, effect, held)
            case Cease():
                return None if held is None else await self._cease(connection, subject, effect, held)
            case _:
                assert_never(effect)

    async def _raise(
        self, connection: AsyncConnection, subject: Subject, effect: Raise, held: Standing | None
    ) -> Change:
        now = self._clock.now()
        if held is not None:
            await self._store.release(connection, subject.organisation_id, held.alert_id)
        alert = Alert(
            id=str(uuid.uuid4()),
            organisation_id=subject.organisation_id,
            agent_id=subject.agent_id,
            key=effect.key,
            type=effect.type,
            severity=effect.severity,
            message=effect.message,
            state=AlertState.OPEN,
            holding=True,
            opened_at=now,
            changed_at=now,
        )
        if await self._store.add(connection, alert):
            return self._said(subject, effect.key, standing_of(alert))
        # Another hub was faster: its alert is the one.
        for other in await self._store.standing_of(connection, subject.organisation_id, subject.agent_id):
            if other.key == effect.key and other.state is AlertState.OPEN:
                return Change(subject, effect.key, standing_of(other), None)
        return Change(subject, effect.key, None, None)

    async def _change_severity(
        self, connection: AsyncConnection, subject: Subject, effect: ChangeSeverity, held: Standing
    ) -> Change:
        await self._store.change_severity(
            connection,
            subject.organisation_id,
            held.alert_id,
            severity=effect.severity,
            message=effect.message,
            at=self._clock.now(),
        )
        after = msgspec.structs.replace(held, severity=effect.severity, message=effect.message)
        return self._said(subject, effect.key, after)

    async def _cease(self, connection: AsyncConnection, subject: Subject, effect: Cease, held: Standing) -> Change:
        await self._store.release(connection, subject.organisation_id, held.alert_id)
        if not held.is_open:
            return Change(subject, effect.key, None, None)
        await self._store.resolve(connection, subject.organisation_id, held.alert_id, at=self._clock.now())
        resolved = msgspec.structs.replace(held, is_open=False)
        event = _event(subject.organisation_id, subject.agent_id, resolved, self._clock)
        return Change(subject, effect.key, None, event)

    def _said(self, subject: Subject, key: str, standing: Standing) -> Change:
        return Change(
            subject,
            key,
            standing,
            _event(subject.organisation_id, subject.agent_id, standing, self._clock),
            RaisedAlert(type=standing.type, severity=standing.severity, message=standing.message),
        )

    def _settle(self, change: Change) -> None:
        subject = change.subject
        self._keep(subject.organisation_id, subject.agent_id, change.key, change.standing)
        if change.raised is not None:
            recent = self._recent.setdefault(subject.agent_id, deque(maxlen=RECENT_PER_AGENT))
            recent.append((subject.received_monotonic, change.raised))
        if change.event is not None:
            log.info("alert changed", agent_id=subject.agent_id, key=change.key, state=change.event.state)
            self._bus.publish(change.event)

    def _keep(self, organisation_id: str, agent_id: str, key: str, standing: Standing | None) -> None:
        standings = self._standing.setdefault(agent_id, {})
        if standing is None:
            standings.pop(key, None)
        else:
            standings[key] = standing
        counts = self._open.setdefault(organisation_id, {})
        if count := sum(kept.is_open for kept in standings.values()):
            counts[agent_id] = count
        else:
            counts.pop(agent_id, None)

    async def _resolve(self, principal: Principal, organisation_id: str, alert_id: str) -> tuple[Alert, bool]:
        """Return the alert as it is now, and whether this changed it."""
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            alert = await self._store.find(connection, organisation_id, alert_id)
            if alert is None:
                raise NotFound(f"there is no alert {alert_id!r} in your organisation", path="$.alertId")
            if alert.state is AlertState.RESOLVED:
                return alert, False
            await self._store.resolve(connection, organisation_id, alert_id, at=now, by=principal.actor)
            await record(
                connection,
                organisation_id=organisation_id,
                at=now,
                actor=principal.actor,
                action="alerts:resolve",
                target=f"alert:{alert_id}",
                detail={"agentId": alert.agent_id, "type": alert.type, "severity": alert.severity.value},
            )
        return (
            msgspec.structs.replace(
                alert, state=AlertState.RESOLVED, changed_at=now, resolved_at=now, resolved_by=principal.actor
            ),
            True,
        )

    def _view(self, alert: Alert) -> AlertView:
        return AlertView(
            id=alert.id,
            agent_id=alert.agent_id,
            hostname=self._hosts.hostname_of(alert.organisation_id, alert.agent_id),
            type=alert.type,
            severity=alert.severity,
            message=alert.message,
            state=alert.state,
            opened_at=alert.opened_at,
            resolved_at=alert.resolved_at,
            resolved_by=alert.resolved_by,
        )


def _event(organisation_id: str, agent_id: str, standing: Standing, clock: Clock) -> AlertChanged:
    return AlertChanged(
        organisation_id=organisation_id,
        agent_id=agent_id,
        alert_id=standing.alert_id,
        type=standing.type,
        severity=standing.severity,
        message=standing.message,
        state=AlertState.OPEN if standing.is_open else AlertState.RESOLVED,
        at=clock.now(),
    )
