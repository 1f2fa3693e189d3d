"""The composition root: the only place where constructors meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from hub_server import lifecycle
from hub_server.access.service import AccessService
from hub_server.alerts.service import AlertService
from hub_server.alerts.store import AlertStore
from hub_server.alerts.worker import AlertWorker
from hub_server.bus.in_process import InProcessBus
from hub_server.clock import Clock, SystemClock
from hub_server.commands.service import CommandService
from hub_server.commands.store import CommandStore
from hub_server.commands.worker import Dispatcher
from hub_server.config import Settings
from hub_server.enrollment.service import EnrollmentService
from hub_server.fleet.service import FleetService
from hub_server.fleet.store import FleetStore
from hub_server.fleet.worker import IndexKeeper
from hub_server.gateway.agents.courier import Courier
from hub_server.gateway.agents.endpoint import AgentEndpoint
from hub_server.gateway.agents.handler import AgentFrameHandler
from hub_server.gateway.agents.liveness import Liveness
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.dashboards.announcer import Announcer
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.operations import Operations
from hub_server.gateway.dashboards.server import DashboardServer, SocketRooms
from hub_server.gateway.dashboards.tables.commands import command_operations
from hub_server.gateway.dashboards.tables.fleet import FleetOperations
from hub_server.gateway.dashboards.tables.joining import joining_operations
from hub_server.gateway.dashboards.tables.telemetry import telemetry_operations
from hub_server.gateway.listeners import Readiness, agents_application, people_application, people_tls
from hub_server.instruments import Instruments
from hub_server.lifecycle import Hub, Listener, Worker
from hub_server.pauses import PauseMeter
from hub_server.pki.authority import Authority
from hub_server.pki.listener import agents_tls_context
from hub_server.pki.service import CertificateService
from hub_server.presence.service import PresenceService
from hub_server.presence.store import PresenceStore
from hub_server.presence.worker import PresenceKeeper, TroubleListener
from hub_server.storage.engine import Database
from hub_server.storage.migrate import migrate
from hub_server.telemetry.service import TelemetryService
from hub_server.telemetry.store import TelemetryStore
from hub_server.telemetry.worker import Recorder, Retention
from protocol.limits import HEARTBEAT_SECONDS


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event | None = None,
    listening: Callable[[dict[str, int]], None] = lambda _ports: None,
) -> None:
    """Run a hub until `stop` is set, or until SIGTERM or SIGINT.

    `listening` is told the port of each listener (`people`, `agents`). Raises OSError when one is taken, PkiRefused
    when the keys cannot be used, and what Alembic raises when the database is newer than this program.
    """
    clock = SystemClock()
    authority = await asyncio.to_thread(
        Authority.open_or_create, settings.data_dir / "pki", trust_domain=settings.pki.trust_domain, clock=clock
    )
    database = Database(settings.resolved_database_url)
    try:
        await migrate(database)
        hub = compose(settings, clock=clock, database=database, authority=authority)
        await lifecycle.run(hub, stop=stop or lifecycle.stop_on_signals(), listening=listening)
    finally:
        await database.close()


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every subject stands on."""

    settings: Settings
    clock: Clock
    database: Database
    authority: Authority
    bus: InProcessBus
    registry: SessionRegistry
    instruments: Instruments
    pauses: PauseMeter


@dataclass(frozen=True, slots=True)
class Subjects:
    access: AccessService
    certificates: CertificateService
    telemetry: TelemetryService
    presence: PresenceService
    fleet: FleetService
    alerts: AlertService
    commands: CommandService
    enrollment: EnrollmentService


@dataclass(frozen=True, slots=True)
class Dashboards:
    server: DashboardServer
    feed: LiveFeed
    announcer: Announcer


def compose(settings: Settings, *, clock: Clock, database: Database, authority: Authority) -> Hub:
    """Return a hub that is wired and not yet started."""
    bus = InProcessBus()
    instruments = Instruments(bus)
    base = Foundation(
        settings=settings,
        clock=clock,
        database=database,
        authority=authority,
        bus=bus,
        registry=SessionRegistry(),
        instruments=instruments,
        pauses=PauseMeter(clock, instruments.loop_lag_seconds.observe),
    )
    subjects = _subjects(base)
    dashboards = _dashboards(base, subjects)
    endpoint = _endpoint(base, subjects)
    instruments.gauge("jtnt_agents_connected", "Agents with a session on this hub", lambda: len(base.registry))
    instruments.gauge("jtnt_dashboards_connected", "Sockets of dashboards", lambda: dashboards.server.client_count)
    readiness = Readiness(database.answers)
    keeper = PresenceKeeper(subjects.presence)
    return Hub(
        load=(
            subjects.access.ensure_default_organisation,
            subjects.certificates.load,
            subjects.fleet.load,
            subjects.telemetry.load,
            subjects.alerts.load,
            subjects.commands.load,
            subjects.presence.load,
        ),
        workers=_workers(base, subjects, dashboards, keeper),
        listeners=_listeners(base, subjects, dashboards, endpoint, readiness),
        drain=(endpoint.drain, dashboards.server.shut_down, keeper.save),
        became_ready=readiness.set,
    )


def _subjects(base: Foundation) -> Subjects:
    settings, authority = base.settings, base.authority
    database, bus, clock = base.database, base.bus, base.clock
    certificates = CertificateService(database, authority, clock)
    telemetry = TelemetryService(database=database, bus=bus, clock=clock, store=TelemetryStore())
    presence_store = PresenceStore()
    fleet = FleetService(
        database=database,
        bus=bus,
        clock=clock,
        store=FleetStore(),
        trust=authority.trust,
        purges=(telemetry.delete_agent, certificates.revoke_agent, presence_store.delete_agent),
    )
    return Subjects(
        access=AccessService(
            database=database,
            clock=clock,
            jwt_key=authority.jwt_key,
            access_token_seconds=settings.access.access_token_seconds,
            refresh_days=settings.access.refresh_days,
        ),
        certificates=certificates,
        telemetry=telemetry,
        presence=PresenceService(database=database, bus=bus, clock=clock, pauses=base.pauses, store=presence_store),
        fleet=fleet,
        alerts=AlertService(database=database, bus=bus, clock=clock, store=AlertStore(), hosts=fleet),
        commands=CommandService(
            database=database,
            bus=bus,
            clock=clock,
            store=CommandStore(),
            signer=authority,
            agents=fleet,
            sessions=base.registry,
        ),
        enrollment=EnrollmentService(
            database=database,
            bus=bus,
            clock=clock,
            certificates=certificates,
            anchor=authority,
            agents=fleet,
            join_host=settings.join_host_port.host,
            join_port=settings.join_host_port.port,
            websocket_url=settings.agent_websocket_url,
            next_heartbeat_seconds=HEARTBEAT_SECONDS,
        ),
    )


def _endpoint(base: Foundation, subjects: Subjects) -> AgentEndpoint:
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
            commands=subjects.commands,
        ),
        certificates=subjects.certificates,
        fleet=subjects.fleet,
        presence=subjects.presence,
        telemetry=subjects.telemetry,
        commands=subjects.commands,
    )


def _dashboards(base: Foundation, subjects: Subjects) -> Dashboards:
    rooms = SocketRooms(base.settings.web_origins)
    view = FleetView(
        fleet=subjects.fleet,
        presence=subjects.presence,
        telemetry=subjects.telemetry,
        alerts=subjects.alerts,
        commands=subjects.commands,
    )
    feed = LiveFeed(bus=base.bus, rooms=rooms, fleet=subjects.fleet, view=view, telemetry=subjects.telemetry)
    announcer = Announcer(bus=base.bus, rooms=rooms, fleet=subjects.fleet, view=view)
    operations = Operations(
        (
            FleetOperations(fleet=subjects.fleet, view=view, feed=feed, certificates=subjects.certificates).table,
            telemetry_operations(subjects.telemetry, subjects.alerts),
            command_operations(subjects.commands),
            joining_operations(subjects.enrollment),
        )
    )
    server = DashboardServer(
        rooms=rooms, clock=base.clock, access=subjects.access, operations=operations, announcer=announcer, feed=feed
    )
    return Dashboards(server, feed, announcer)


def _workers(
    base: Foundation, subjects: Subjects, dashboards: Dashboards, keeper: PresenceKeeper
) -> tuple[Worker, ...]:
    bus = base.bus
    recorder = Recorder(bus=bus, telemetry=subjects.telemetry, raised=subjects.alerts)
    gauge = base.instruments.gauge
    gauge("jtnt_samples_stored", "Samples stored since the start", lambda: recorder.stored_samples)
    gauge("jtnt_commits_failed", "Commits of samples that failed and were tried again", lambda: recorder.failed_commits)
    gauge("jtnt_frames_refused", "Frames of samples that the database refused", lambda: recorder.refused_frames)
    retention = Retention(telemetry=subjects.telemetry, metrics_days=base.settings.retention.metrics_days)
    liveness = Liveness(registry=base.registry, pauses=base.pauses, telemetry=subjects.telemetry)
    forgets = (
        subjects.telemetry.forget,
        subjects.alerts.forget,
        subjects.commands.forget,
        subjects.presence.forget,
        subjects.certificates.note_revoked,
    )
    return (
        Worker("instruments", base.instruments.run),
        Worker("pauses", base.pauses.run),
        Worker("fleet-index", IndexKeeper(bus, subjects.fleet, forgets).run),
        Worker("recorder", recorder.run),
        Worker("retention", retention.run),
        Worker("alerts", AlertWorker(bus=bus, alerts=subjects.alerts, settings=subjects.fleet).run),
        Worker("dispatcher", Dispatcher(bus=bus, ledger=subjects.commands.ledger).run),
        Worker("presence", keeper.run),
        Worker("troubles", TroubleListener(bus, subjects.presence).run),
        Worker("courier", Courier(bus, base.registry).run),
        Worker("liveness", liveness.run),
        Worker("live-feed", dashboards.feed.run),
        Worker("announcer", dashboards.announcer.run),
        Worker("dashboards", dashboards.server.run),
    )


def _listeners(
    base: Foundation, subjects: Subjects, dashboards: Dashboards, endpoint: AgentEndpoint, readiness: Readiness
) -> tuple[Listener, ...]:
    settings = base.settings
    people = people_application(settings, access=subjects.access, readiness=readiness, instruments=base.instruments)
    dashboards.server.attach(people)
    agents = agents_application(
        connect=endpoint.connect,
        enrollment=subjects.enrollment,
        ca_bundle_pem=base.authority.ca_bundle_pem,
        trust=base.authority.trust,
    )
    deadline, at_once = settings.agents.handshake_timeout_seconds, settings.agents.handshakes_at_once
    web_tls, agents_tls = people_tls(settings), agents_tls_context(base.authority, settings.server_names)
    return (
        Listener("people", people, settings.people.host, settings.people.port, web_tls, deadline, at_once),
        Listener("agents", agents, settings.agents.host, settings.agents.port, agents_tls, deadline, at_once),
    )
