"""The composition root: a hub from its settings, wired and run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hub_server import lifecycle
from hub_server.alerts.worker import AlertWorker, ClockWorker, ComplianceWorker, TrustWorker
from hub_server.audit.worker import Checkpointer
from hub_server.bus.in_process import InProcessBus
from hub_server.clock import Clock, SystemClock
from hub_server.commands.worker import Dispatcher
from hub_server.composition.dashboards import Dashboards, dashboards_on
from hub_server.composition.doors import agents_door, listeners_of
from hub_server.composition.figures import show_dashboards, show_process, show_store
from hub_server.composition.foundation import Foundation
from hub_server.composition.subjects import Subjects, retention_on, subjects_on
from hub_server.composition.telemetry import metric_store, telemetry_workers
from hub_server.config import Settings
from hub_server.fleet.service import FleetService
from hub_server.fleet.worker import IndexKeeper
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.listeners import (
    Readiness,
)
from hub_server.heap import HeapKeeper
from hub_server.instruments import Instruments
from hub_server.lifecycle import Hub, Worker
from hub_server.opening import open_authority, round_seconds_of, signer_of
from hub_server.pauses import PauseMeter
from hub_server.pki.authority import Authority
from hub_server.pki.listener import AgentsTls
from hub_server.pki.news import NEWS_NAME
from hub_server.pki.worker import Keeper
from hub_server.policies.worker import ComplianceKeeper
from hub_server.presence.worker import PresenceKeeper, TroubleListener
from hub_server.signing.service import Signer
from hub_server.signing.worker import SignerKeeper
from hub_server.storage.engine import Database
from hub_server.storage.hub_id import hub_id_in
from hub_server.storage.migrate import migrate
from hub_server.storage.row_security import warn_if_unbound
from hub_server.storage.vault import Vault
from hub_server.telemetry.port import MetricStore


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event | None = None,
    listening: Callable[[dict[str, int]], None] = lambda _ports: None,
) -> None:
    """Run a hub until `stop` is set, or until SIGTERM or SIGINT.

    `listening` is told the port of each listener (`people`, `agents`). Raises OSError when one is taken, KeysRefused
    when the keys cannot be used, and what Alembic raises when the database is newer than this program.
    """
    clock = SystemClock()
    vault = await asyncio.to_thread(Vault.open, settings.data_dir, settings.secrets)
    database = Database(settings.resolved_database_url, hub_id=await asyncio.to_thread(hub_id_in, settings.data_dir))
    metrics = metric_store(settings, database)
    signer = signer_of(settings)
    try:
        await migrate(database)
        await warn_if_unbound(database)
        authority = await open_authority(settings, database, vault, clock, signer)
        base = _foundation(settings, clock=clock, database=database, metrics=metrics, authority=authority, vault=vault)
        hub = compose(base, signer)
        await lifecycle.run(hub, stop=stop or lifecycle.stop_on_signals(), listening=listening)
    finally:
        await signer.close()
        await metrics.close()
        await database.close()


def compose(base: Foundation, signer: Signer) -> Hub:
    """Return a hub that is wired and not yet started."""
    subjects = subjects_on(base)
    dashboards = dashboards_on(base, subjects)
    door = agents_door(base, subjects)
    heap = HeapKeeper(clock=base.clock, entered=lambda: base.registry.entered, live=lambda: len(base.registry))
    show_process(base, heap)
    show_store(base)
    show_dashboards(base, dashboards)
    readiness = Readiness(base.database.answers)
    keeper, checkpointer = PresenceKeeper(subjects.presence), Checkpointer(subjects.audit)
    return Hub(
        load=_loads(subjects, base.metrics),
        workers=(
            *_workers(base, subjects, dashboards, keeper),
            *door.workers,
            Worker("signer", SignerKeeper(signer).run),
            Worker("keys", _keeper(base, subjects.fleet).run),
            Worker("checkpoints", checkpointer.run),
            Worker("heap", heap.run),
        ),
        listeners=listeners_of(base, subjects, dashboards, door.endpoint, readiness),
        drain=(door.endpoint.drain, dashboards.server.shut_down, keeper.save, checkpointer.sign),
        became_ready=readiness.set,
    )


def _loads(subjects: Subjects, metrics: MetricStore) -> tuple[Callable[[], Awaitable[object]], ...]:
    """Return what is read before anything runs, in order."""
    return (
        subjects.people.users.ensure_default_organisation,
        subjects.certificates.load,
        subjects.fleet.load,
        metrics.open,
        subjects.telemetry.load,
        subjects.reports.load,
        subjects.alerts.load,
        subjects.commands.load,
        subjects.presence.load,
        subjects.inventory.load,
        subjects.policies.load,
        subjects.compliance.load,
        subjects.vitals.load,
        subjects.audit.load,
    )


def _foundation(
    settings: Settings, *, clock: Clock, database: Database, metrics: MetricStore, authority: Authority, vault: Vault
) -> Foundation:
    bus = InProcessBus()
    instruments = Instruments(bus)
    return Foundation(
        settings=settings,
        clock=clock,
        database=database,
        authority=authority,
        vault=vault,
        metrics=metrics,
        agents_tls=AgentsTls(authority, settings.server_names),
        bus=bus,
        registry=SessionRegistry(),
        instruments=instruments,
        pauses=PauseMeter(clock, instruments.observe_lag),
    )


def _keeper(base: Foundation, fleet: FleetService) -> Keeper:
    return Keeper(
        authority=base.authority,
        tls=base.agents_tls,
        round_seconds=round_seconds_of(base.settings),
        on_trust_changed=(fleet.announce_trust,),
        hears=base.settings.data_dir / NEWS_NAME,
    )


def _workers(
    base: Foundation, subjects: Subjects, dashboards: Dashboards, keeper: PresenceKeeper
) -> tuple[Worker, ...]:
    bus = base.bus
    forgets = (
        subjects.telemetry.forget,
        subjects.skew.forget,
        subjects.alerts.forget,
        subjects.commands.forget,
        subjects.presence.forget,
        subjects.inventory.forget,
        subjects.compliance.forget,
        subjects.certificates.note_revoked,
    )
    return (
        Worker("instruments", base.instruments.run),
        Worker("pauses", base.pauses.run),
        Worker("vitals", subjects.vitals.run),
        Worker("fleet-index", IndexKeeper(bus, subjects.fleet, forgets).run),
        *telemetry_workers(base, subjects.telemetry, subjects.reports, subjects.alerts, subjects.fleet),
        Worker("alerts", AlertWorker(bus=bus, alerts=subjects.alerts, settings=subjects.fleet).run),
        Worker("alerts-of-trust", TrustWorker(bus=bus, alerts=subjects.alerts, kept_out=subjects.fleet.kept_out).run),
        Worker("alerts-of-clocks", ClockWorker(bus=bus, alerts=subjects.alerts, judged=subjects.skew.judged).run),
        Worker("alerts-of-compliance", ComplianceWorker(bus=bus, alerts=subjects.alerts).run),
        Worker("compliance", ComplianceKeeper(policies=subjects.policies, compliance=subjects.compliance).run),
        Worker("dispatcher", Dispatcher(bus=bus, ledger=subjects.commands.ledger).run),
        Worker("command-retention", retention_on(base).run),
        Worker("presence", keeper.run),
        Worker("troubles", TroubleListener(bus, subjects.presence, subjects.reports.said_before).run),
        Worker("live-feed", dashboards.feed.run),
        Worker("announcer", dashboards.announcer.run),
        Worker("dashboards", dashboards.server.run),
    )
