"""The subjects, each with its stores and the ports it asks of others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

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
from hub_server.audit.service import AuditService
from hub_server.commands.retention import Retention
from hub_server.commands.service import CommandService
from hub_server.commands.store import CommandStore
from hub_server.composition.foundation import Foundation
from hub_server.composition.telemetry import history_on, telemetry_on
from hub_server.composition.vitals import vitals_on
from hub_server.enrollment.service import EnrollmentService
from hub_server.fleet.service import FleetService
from hub_server.fleet.store import FleetStore
from hub_server.fleet.trust import TrustDesk
from hub_server.gateway.dashboards.fleet_view import Selection
from hub_server.inventory.service import InventoryService
from hub_server.inventory.store import InventoryStore
from hub_server.pki.service import CertificateService, renewals_apart_of
from hub_server.policies.compliance import ComplianceService
from hub_server.policies.service import PolicyService
from hub_server.policies.store import ComplianceStore, PolicyStore
from hub_server.presence.service import PresenceService
from hub_server.presence.store import PresenceStore
from hub_server.skew.service import SkewService
from hub_server.telemetry.query import MetricHistory
from hub_server.telemetry.reports import ReportService
from hub_server.telemetry.service import TelemetryService
from hub_server.vitals.service import VitalsService
from protocol.limits import HEARTBEAT_SECONDS


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
    skew: SkewService
    telemetry: TelemetryService
    reports: ReportService
    history: MetricHistory
    presence: PresenceService
    fleet: FleetService
    desk: TrustDesk
    inventory: InventoryService
    policies: PolicyService
    compliance: ComplianceService
    vitals: VitalsService
    alerts: AlertService
    commands: CommandService
    enrollment: EnrollmentService


def subjects_on(base: Foundation) -> Subjects:
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
    skew = SkewService(bus=bus, clock=clock)
    telemetry = telemetry_on(base, skew)
    presence_store = PresenceStore()
    quotas = Quotas(agents=FleetStore().counts, open_commands=CommandStore().open_counts)
    fleet = FleetService(
        database=database,
        bus=bus,
        clock=clock,
        store=fleet_store,
        anchor=authority,
        purges=(telemetry.reports.delete_agent, certificates.revoke_agent, presence_store.delete_agent),
    )
    people = _people(base, quotas)
    presence = PresenceService(
        database=database, bus=bus, clock=clock, pauses=base.pauses, store=presence_store, machines=fleet
    )
    history = history_on(base, Selection(fleet, presence))
    inventory = InventoryService(database=database, clock=clock, store=InventoryStore(), machines=fleet)
    policies = PolicyService(database=database, clock=clock, store=PolicyStore(), machines=fleet)
    return Subjects(
        people=people,
        organisations=OrganisationService(database=database, clock=clock, agents=FleetStore().counts),
        audit=AuditService(database=database, clock=clock, signer=authority),
        certificates=certificates,
        skew=skew,
        telemetry=telemetry.service,
        reports=telemetry.reports,
        history=history,
        presence=presence,
        fleet=fleet,
        desk=TrustDesk(
            database=database, bus=bus, clock=clock, store=fleet_store, fleet=fleet, certificates=certificates
        ),
        vitals=vitals_on(base, telemetry.service, history, people.users),
        inventory=inventory,
        policies=policies,
        compliance=ComplianceService(
            database=database,
            bus=bus,
            clock=clock,
            store=ComplianceStore(),
            policies=policies,
            machines=fleet,
            inventory=inventory,
            samples=telemetry.service,
            sessions=base.registry,
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
            policies=policies,
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


def retention_on(base: Foundation) -> Retention:
    """Return what deletes old commands."""
    kept = base.settings.retention
    return Retention(
        database=base.database,
        clock=base.clock,
        store=CommandStore(),
        commands_days=kept.commands_days,
        output_days=kept.output_days,
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
