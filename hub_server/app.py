"""The composition root: the only place where constructors meet."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from hub_server import lifecycle
from hub_server.access.accounts import AccountService
from hub_server.access.api_keys import ApiKeyService
from hub_server.access.credentials import Credentials
from hub_server.access.organisations import OrganisationService
from hub_server.access.quotas import Quotas
from hub_server.access.service import AccessService
from hub_server.access.standings import NEWS_NAME, Standings
from hub_server.access.users import UserService
from hub_server.alerts.service import AlertService
from hub_server.alerts.store import AlertStore
from hub_server.alerts.worker import AlertWorker, TrustWorker
from hub_server.audit.service import AuditService
from hub_server.audit.worker import Checkpointer
from hub_server.bus.in_process import InProcessBus
from hub_server.clock import Clock, SystemClock
from hub_server.commands.service import CommandService
from hub_server.commands.store import CommandStore
from hub_server.commands.worker import Dispatcher
from hub_server.config import AgentsSettings, PeopleSettings, Settings
from hub_server.enrollment.service import EnrollmentService
from hub_server.fleet.service import FleetService
from hub_server.fleet.store import FleetStore
from hub_server.fleet.trust import TrustDesk
from hub_server.fleet.worker import IndexKeeper
from hub_server.gateway.agents.clones import CloneWatch
from hub_server.gateway.agents.courier import Courier
from hub_server.gateway.agents.endpoint import AgentEndpoint
from hub_server.gateway.agents.handler import AgentFrameHandler
from hub_server.gateway.agents.judge import Judge
from hub_server.gateway.agents.liveness import Liveness
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.dashboards.announcer import Announcer
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.operations import Operations
from hub_server.gateway.dashboards.pace import Pace
from hub_server.gateway.dashboards.server import DashboardServer, SocketRooms
from hub_server.gateway.dashboards.tables.audit import audit_operations
from hub_server.gateway.dashboards.tables.authorities import authority_operations
from hub_server.gateway.dashboards.tables.certificates import certificate_operations
from hub_server.gateway.dashboards.tables.commands import command_operations
from hub_server.gateway.dashboards.tables.fleet import FleetOperations
from hub_server.gateway.dashboards.tables.joining import joining_operations
from hub_server.gateway.dashboards.tables.organisations import organisation_operations
from hub_server.gateway.dashboards.tables.people import people_operations
from hub_server.gateway.dashboards.tables.telemetry import telemetry_operations
from hub_server.gateway.listeners import (
    Readiness,
    admission,
    agents_application,
    count_guests,
    deadlines,
    people_application,
    people_tls,
)
from hub_server.gateway.rest.origins import Origins
from hub_server.instruments import Instruments
from hub_server.lifecycle import Hub, Listener, Worker
from hub_server.opening import open_authority, round_seconds_of
from hub_server.pauses import PauseMeter
from hub_server.pki.authority import Authority
from hub_server.pki.listener import AgentsTls
from hub_server.pki.service import CertificateService, renewals_apart_of
from hub_server.pki.worker import Keeper
from hub_server.presence.service import PresenceService
from hub_server.presence.store import PresenceStore
from hub_server.presence.worker import PresenceKeeper, TroubleListener
from hub_server.storage.engine import Database
from hub_server.storage.hub_id import hub_id_in
from hub_server.storage.migrate import migrate
from hub_server.storage.row_security import warn_if_unbound
from hub_server.storage.vault import Vault
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

    `listening` is told the port of each listener (`people`, `agents`). Raises OSError when one is taken, KeysRefused
    when the keys cannot be used, and what Alembic raises when the database is newer than this program.
    """
    clock = SystemClock()
    vault = await asyncio.to_thread(Vault.open, settings.data_dir, settings.secrets)
    database = Database(settings.resolved_database_url, hub_id=await asyncio.to_thread(hub_id_in, settings.data_dir))
    try:
        await migrate(database)
        await warn_if_unbound(database)
        authority = await open_authority(settings, database, vault, clock)
        hub = compose(settings, clock=clock, database=database, authority=authority, vault=vault)
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
    vault: Vault
    agents_tls: AgentsTls
    bus: InProcessBus
    registry: SessionRegistry
    instruments: Instruments
    pauses: PauseMeter


@dataclass(frozen=True, slots=True)
class People:
    access: AccessService
    accounts: AccountService
    users: UserService
    api_keys: ApiKeyService


@dataclass(frozen=True, slots=True)
class Subjects:
    people: People
    organisations: OrganisationService
    audit: AuditService
    certificates: CertificateService
    telemetry: TelemetryService
    presence: PresenceService
    fleet: FleetService
    desk: TrustDesk
    alerts: AlertService
    commands: CommandService
    enrollment: EnrollmentService


@dataclass(frozen=True, slots=True)
class Door:
    """Where agents come in, and who looks after their sessions."""

    endpoint: AgentEndpoint
    workers: Sequence[Worker]


@dataclass(frozen=True, slots=True)
class Dashboards:
    server: DashboardServer
    feed: LiveFeed
    announcer: Announcer


def compose(settings: Settings, *, clock: Clock, database: Database, authority: Authority, vault: Vault) -> Hub:
    """Return a hub that is wired and not yet started."""
    bus = InProcessBus()
    instruments = Instruments(bus)
    base = Foundation(
        settings=settings,
        clock=clock,
        database=database,
        authority=authority,
        vault=vault,
        agents_tls=AgentsTls(authority, settings.server_names),
        bus=bus,
        registry=SessionRegistry(),
        instruments=instruments,
        pauses=PauseMeter(clock, instruments.loop_lag_seconds.observe),
    )
    subjects = _subjects(base)
    dashboards = _dashboards(base, subjects)
    door = _door(base, subjects)
    instruments.gauge("jtnt_agents_connected", "Agents with a session on this hub", lambda: len(base.registry))
    instruments.gauge("jtnt_dashboards_connected", "Sockets of dashboards", lambda: dashboards.server.client_count)
    readiness = Readiness(database.answers)
    keeper, checkpointer = PresenceKeeper(subjects.presence), Checkpointer(subjects.audit)
    return Hub(
        load=(
            subjects.people.users.ensure_default_organisation,
            subjects.certificates.load,
            subjects.fleet.load,
            subjects.telemetry.load,
            subjects.alerts.load,
            subjects.commands.load,
            subjects.presence.load,
            subjects.audit.load,
        ),
        workers=(
            *_workers(base, subjects, dashboards, keeper),
            *door.workers,
            Worker("keys", _keeper(base, subjects.fleet).run),
            Worker("checkpoints", checkpointer.run),
        ),
        listeners=_listeners(base, subjects, dashboards, door.endpoint, readiness),
        drain=(door.endpoint.drain, dashboards.server.shut_down, keeper.save, checkpointer.sign),
        became_ready=readiness.set,
    )


def _subjects(base: Foundation) -> Subjects:
    settings, authority = base.settings, base.authority
    database, bus, clock = base.database, base.bus, base.clock
    fleet_store = FleetStore()
    certificates = CertificateService(
        database,
        authority,
        clock,
        lock_trust=fleet_store.lock_trust,
        renewals_apart_seconds=renewals_apart_of(timedelta(seconds=settings.pki.agent_certificate_seconds)),
    )
    telemetry = TelemetryService(database=database, bus=bus, clock=clock, store=TelemetryStore())
    presence_store = PresenceStore()
    quotas = Quotas(agents=FleetStore().counts, open_commands=CommandStore().open_counts)
    fleet = FleetService(
        database=database,
        bus=bus,
        clock=clock,
        store=fleet_store,
        anchor=authority,
        purges=(telemetry.delete_agent, certificates.revoke_agent, presence_store.delete_agent),
    )
    return Subjects(
        people=_people(base, quotas),
        organisations=OrganisationService(database=database, clock=clock, agents=FleetStore().counts),
        audit=AuditService(database=database, clock=clock, signer=authority),
        certificates=certificates,
        telemetry=telemetry,
        presence=PresenceService(database=database, bus=bus, clock=clock, pauses=base.pauses, store=presence_store),
        fleet=fleet,
        desk=TrustDesk(
            database=database, bus=bus, clock=clock, store=fleet_store, fleet=fleet, certificates=certificates
        ),
        alerts=AlertService(database=database, bus=bus, clock=clock, store=AlertStore(), hosts=fleet),
        commands=CommandService(
            database=database,
            bus=bus,
            clock=clock,
            store=CommandStore(),
            signer=authority,
            agents=fleet,
            sessions=base.registry,
            quotas=quotas,
        ),
        enrollment=EnrollmentService(
            database=database,
            bus=bus,
            clock=clock,
            certificates=certificates,
            anchor=authority,
            agents=fleet,
            quotas=quotas,
            approval_days=settings.enrollment.approval_days,
            recovers=settings.enrollment.recovery,
            join_host=settings.join_host_port.host,
            join_port=settings.join_host_port.port,
            websocket_url=settings.agent_websocket_url,
            next_heartbeat_seconds=HEARTBEAT_SECONDS,
        ),
    )


def _keeper(base: Foundation, fleet: FleetService) -> Keeper:
    return Keeper(
        authority=base.authority,
        tls=base.agents_tls,
        round_seconds=round_seconds_of(base.settings),
        on_trust_changed=(fleet.announce_trust,),
    )


def _people(base: Foundation, quotas: Quotas) -> People:
    database, clock, standings = base.database, base.clock, Standings(hears=base.settings.data_dir / NEWS_NAME)
    credentials = Credentials(clock=clock, vault=base.vault)
    api_keys = ApiKeyService(database=database, clock=clock, standings=standings)
    return People(
        access=AccessService(
            database=database,
            clock=clock,
            jwt_key=base.authority.jwt_key,
            credentials=credentials,
            standings=standings,
            api_keys=api_keys,
            access_token_seconds=base.settings.access.access_token_seconds,
            refresh_days=base.settings.access.refresh_days,
            demands_second_factor=base.settings.demands_second_factor,
        ),
        accounts=AccountService(database=database, clock=clock, credentials=credentials, standings=standings),
        users=UserService(
            database=database, clock=clock, passwords=credentials.passwords, standings=standings, quotas=quotas
        ),
        api_keys=api_keys,
    )


def _door(base: Foundation, subjects: Subjects) -> Door:
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
            commands=subjects.commands,
            certificates=subjects.certificates,
        ),
        certificates=subjects.certificates,
        fleet=subjects.fleet,
        presence=subjects.presence,
        telemetry=subjects.telemetry,
        commands=subjects.commands,
        judge=judge,
        clones=clones,
        newest_checkpoint=subjects.audit.newest_checkpoint,
    )


def _dashboards(base: Foundation, subjects: Subjects) -> Dashboards:
    rooms = SocketRooms(Origins(base.settings.web_origins, base.settings.people.trusted_proxies))
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
            FleetOperations(
                fleet=subjects.fleet,
                desk=subjects.desk,
                view=view,
                feed=feed,
                certificates=subjects.certificates,
            ).table,
            certificate_operations(subjects.certificates, subjects.fleet, base.clock),
            authority_operations(base.authority),
            telemetry_operations(subjects.telemetry, subjects.alerts),
            command_operations(subjects.commands),
            joining_operations(subjects.enrollment),
            organisation_operations(subjects.organisations),
            audit_operations(subjects.audit),
            people_operations(subjects.people.accounts, subjects.people.users, subjects.people.api_keys),
        )
    )
    server = DashboardServer(
        rooms=rooms,
        clock=base.clock,
        access=subjects.people.access,
        operations=operations,
        announcer=announcer,
        feed=feed,
        pace=Pace(
            base.clock,
            per_second=base.settings.access.operations_per_second,
            at_once=base.settings.access.operations_at_once,
        ),
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
        Worker("alerts-of-trust", TrustWorker(bus=bus, alerts=subjects.alerts, kept_out=subjects.fleet.kept_out).run),
        Worker("dispatcher", Dispatcher(bus=bus, ledger=subjects.commands.ledger).run),
        Worker("presence", keeper.run),
        Worker("troubles", TroubleListener(bus, subjects.presence).run),
        Worker("live-feed", dashboards.feed.run),
        Worker("announcer", dashboards.announcer.run),
        Worker("dashboards", dashboards.server.run),
    )


def _listeners(
    base: Foundation, subjects: Subjects, dashboards: Dashboards, endpoint: AgentEndpoint, readiness: Readiness
) -> tuple[Listener, ...]:
    settings = base.settings
    people = people_application(
        settings,
        access=subjects.people.access,
        readiness=readiness,
        instruments=base.instruments,
        is_signed_in=dashboards.server.is_signed_in,
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
