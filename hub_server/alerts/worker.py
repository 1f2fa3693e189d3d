"""Applies the alert rules to live samples as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.alerts.engine import CLOCK, COMPLIANCE, QUARANTINE, Cease, Raise, of_clock, of_compliance, of_trust
from hub_server.alerts.model import Observation
from hub_server.alerts.service import AlertService
from hub_server.bus.port import Bus, Overflow
from hub_server.events import AgentTrustChanged, ClockOffsetMeasured, ComplianceChanged, DomainEvent, MetricsReceived
from protocol.enumerations import AgentTrust, Lane
from protocol.operations import Thresholds

log = structlog.get_logger(component="alerts")

CAPACITY_FRAMES: Final = 10_000
BATCH_FRAMES_MAX: Final = 256
RETRY_FIRST_SECONDS: Final = 0.5
RETRY_MAX_SECONDS: Final = 5.0


class ThresholdSettings(Protocol):
    """Each agent's thresholds."""

    def thresholds_of(self, agent_id: str) -> Thresholds: ...


class AlertWorker:
    """Drops the oldest frames when it is behind: rules look at levels, so that the next sample of a machine makes up.

    The latest frame of an agent is not enough: its security checks and its system values come in frames of their own.
    """

    def __init__(self, *, bus: Bus, alerts: AlertService, settings: ThresholdSettings) -> None:
        self._bus = bus
        self._alerts = alerts
        self._settings = settings
        self.failures = 0

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"telemetry"}), name="alerts", capacity=CAPACITY_FRAMES, overflow=Overflow.DROP_OLDEST
        ) as subscription:
            while True:
                observations = newest_observations(await subscription.batch(BATCH_FRAMES_MAX))
                try:
                    await self._alerts.observe(observations, self._settings.thresholds_of)
                except (DBAPIError, PoolTimeout, OSError) as error:
                    self.failures += 1
                    log.warning("alerts not stored; the next samples raise them again", error=str(error)[:500])


class KeptOut(Protocol):
    """An agent that is in quarantine or revoked."""

    @property
    def id(self) -> str: ...
    @property
    def organisation_id(self) -> str: ...
    @property
    def trust(self) -> AgentTrust: ...
    @property
    def trust_reason(self) -> str: ...


class TrustWorker:
    """Keeps an alert open for every agent that is in quarantine; what was missed is made up for at the start."""

    def __init__(self, *, bus: Bus, alerts: AlertService, kept_out: Callable[[], Iterable[KeptOut]]) -> None:
        self._bus = bus
        self._alerts = alerts
        self._kept_out = kept_out

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"fleet"}), name="alerts-of-trust", capacity=CAPACITY_FRAMES, overflow=Overflow.DROP_OLDEST
        ) as events:
            for agent in self._kept_out():
                if agent.trust is AgentTrust.QUARANTINED and not self._alerts.stands(agent.id, QUARANTINE):
                    effect = of_trust(agent.trust, agent.trust_reason, by_hub=False)
                    await _apply(self._alerts, agent.organisation_id, agent.id, effect)
            async for event in events:
                if isinstance(event, AgentTrustChanged):
                    effect = of_trust(event.trust, event.reason, by_hub=event.by_hub)
                    await _apply(self._alerts, event.organisation_id, event.agent_id, effect)


class ClockWorker:
    """Keeps an alert open for every agent whose clock is far from the hub's.

    `judged`: what was said of clocks before this worker listened.
    """

    def __init__(self, *, bus: Bus, alerts: AlertService, judged: Callable[[], Iterable[ClockOffsetMeasured]]) -> None:
        self._bus = bus
        self._alerts = alerts
        self._judged = judged

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"clocks"}), name="alerts-of-clocks", capacity=CAPACITY_FRAMES, overflow=Overflow.DROP_OLDEST
        ) as events:
            for judged in self._judged():
                await self._apply(judged)
            async for event in events:
                if isinstance(event, ClockOffsetMeasured):
                    await self._apply(event)

    async def _apply(self, event: ClockOffsetMeasured) -> None:
        if event.skewed is not self._alerts.stands(event.agent_id, CLOCK):  # a fleet that comes back writes nothing
            effect = of_clock(event.offset_ms, skewed=event.skewed)
            await _apply(self._alerts, event.organisation_id, event.agent_id, effect)


class ComplianceWorker:
    """Keeps an alert open for every machine on which a check of severity ERROR or above fails."""

    def __init__(self, *, bus: Bus, alerts: AlertService) -> None:
        self._bus = bus
        self._alerts = alerts

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"compliance"}),
            name="alerts-of-compliance",
            capacity=CAPACITY_FRAMES,
            overflow=Overflow.DROP_OLDEST,
        ) as events:
            async for event in events:
                if isinstance(event, ComplianceChanged):
                    effect = of_compliance(event.severity)
                    # What a person resolved while it holds stays so, and a fleet that is judged anew writes nothing.
                    if isinstance(effect, Raise) is not self._alerts.stands(event.agent_id, COMPLIANCE):
                        await _apply(self._alerts, event.organisation_id, event.agent_id, effect)


async def _apply(alerts: AlertService, organisation_id: str, agent_id: str, effect: Raise | Cease) -> None:
    """Try until the database takes it: what is said once about a machine is not said again."""
    pause_seconds = RETRY_FIRST_SECONDS
    while True:
        try:
            return await alerts.apply(organisation_id, agent_id, effect)
        except DataError:
            raise
        except (DBAPIError, PoolTimeout, OSError) as error:
            log.warning("alert not stored; tried again", agent_id=agent_id, key=effect.key, error=str(error)[:500])
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, RETRY_MAX_SECONDS)


def newest_observations(events: Iterable[DomainEvent]) -> list[Observation]:
    """Return the newest sample of each agent and metric type. Backfilled ones are history and raise nothing now."""
    newest: dict[tuple[str, str], Observation] = {}
    for event in events:
        if not isinstance(event, MetricsReceived) or event.lane is not Lane.LIVE or event.is_repeated:
            continue
        for sample in event.samples:
            newest[event.agent_id, sample.metric_type] = Observation(
                organisation_id=event.organisation_id,
                agent_id=event.agent_id,
                sample=sample,
                received_monotonic=event.received_monotonic,
            )
    return list(newest.values())
