"""Where agents come in, and the two listeners."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from hub_server.composition.dashboards import Dashboards
from hub_server.composition.foundation import Foundation
from hub_server.composition.subjects import Subjects
from hub_server.config import AgentsSettings, PeopleSettings
from hub_server.gateway.agents.clones import CloneWatch
from hub_server.gateway.agents.courier import Courier
from hub_server.gateway.agents.endpoint import AgentEndpoint
from hub_server.gateway.agents.handler import AgentFrameHandler
from hub_server.gateway.agents.judge import Judge
from hub_server.gateway.agents.liveness import Liveness
from hub_server.gateway.listeners import (
    Readiness,
    admission,
    agents_application,
    count_guests,
    deadlines,
    metrics_door,
    people_application,
    people_tls,
)
from hub_server.gateway.rest.fleet_metrics import FleetMetricsRoutes
from hub_server.lifecycle import Listener, Worker


@dataclass(frozen=True, slots=True)
class Door:
    """Where agents come in, and who looks after their sessions."""

    endpoint: AgentEndpoint
    workers: Sequence[Worker]


def agents_door(base: Foundation, subjects: Subjects) -> Door:
    registry = base.registry
    judge = Judge(registry=registry, certificates=subjects.certificates, fleet=subjects.fleet)
    clones = CloneWatch(certificates=subjects.certificates, desk=subjects.desk)
    liveness = Liveness(registry=registry, pauses=base.pauses, telemetry=subjects.telemetry, clones=clones)
    workers = (
        Worker("courier", Courier(base.bus, registry).run),
        Worker("judge", judge.run),
        Worker("liveness", liveness.run),
    )
    return Door(_endpoint(base, subjects, judge, clones), workers)


def _endpoint(base: Foundation, subjects: Subjects, judge: Judge, clones: CloneWatch) -> AgentEndpoint:
    return AgentEndpoint(
        trust_domain=base.authority.trust_domain,
        clock=base.clock,
        pauses=base.pauses,
        registry=base.registry,
        handler=AgentFrameHandler(
            clock=base.clock,
            fleet=subjects.fleet,
            presence=subjects.presence,
            telemetry=subjects.telemetry,
            reports=subjects.reports,
            skew=subjects.skew,
            commands=subjects.commands,
            certificates=subjects.certificates,
            inventory=subjects.inventory,
        ),
        certificates=subjects.certificates,
        fleet=subjects.fleet,
        presence=subjects.presence,
        telemetry=subjects.telemetry,
        skew=subjects.skew,
        inventory=subjects.inventory,
        commands=subjects.commands,
        judge=judge,
        clones=clones,
        newest_checkpoint=subjects.audit.newest_checkpoint,
    )


def listeners_of(
    base: Foundation, subjects: Subjects, dashboards: Dashboards, endpoint: AgentEndpoint, readiness: Readiness
) -> tuple[Listener, ...]:
    settings = base.settings
    people = people_application(
        settings,
        access=subjects.people.access,
        readiness=readiness,
        instruments=base.instruments,
        is_signed_in=dashboards.server.is_signed_in,
        fleet_metrics=_fleet_metrics(base, subjects),
    )
    dashboards.server.attach(people)
    agents = agents_application(
        settings,
        connect=endpoint.connect,
        enrollment=subjects.enrollment,
        anchor=base.authority,
    )
    return (
        _listener(base, "people", people, settings.people, people_tls(settings)),
        _listener(base, "agents", agents, settings.agents, base.agents_tls.current),
    )


def _fleet_metrics(base: Foundation, subjects: Subjects) -> FleetMetricsRoutes | None:
    if not base.settings.metrics.fleet:
        return None
    return FleetMetricsRoutes(
        door=metrics_door(base.settings), clock=base.clock, machines=subjects.fleet, values=subjects.telemetry
    )


def _listener(
    base: Foundation,
    name: str,
    application: web.Application,
    place: PeopleSettings | AgentsSettings,
    tls: Callable[[], ssl.SSLContext] | None,
) -> Listener:
    """Each listener has an admission of its own: who floods one keeps nobody from the other."""
    guests = admission(base.settings, base.pauses.active_seconds)
    count_guests(base.instruments, name, guests)
    return Listener(
        name=name,
        application=application,
        host=place.host,
        port=place.port,
        tls=tls,
        handshake_timeout_seconds=base.settings.agents.handshake_timeout_seconds,
        handshakes_at_once=base.settings.agents.handshakes_at_once,
        admission=guests,
        deadlines=deadlines(base.settings.limits),
    )
