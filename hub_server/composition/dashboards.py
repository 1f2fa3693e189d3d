"""What browsers and scripts talk to: the operations table, the feed, the socket."""

from __future__ import annotations

from dataclasses import dataclass

from hub_server.composition.foundation import Foundation
from hub_server.composition.subjects import Subjects
from hub_server.gateway.dashboards.announcer import Announcer
from hub_server.gateway.dashboards.first_agents import FirstAgents
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.line import Bounds
from hub_server.gateway.dashboards.lines import Lines
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.operations import Operations
from hub_server.gateway.dashboards.pace import Pace
from hub_server.gateway.dashboards.server import DashboardServer
from hub_server.gateway.dashboards.sockets import Sockets
from hub_server.gateway.dashboards.tables.audit import audit_operations
from hub_server.gateway.dashboards.tables.authorities import authority_operations
from hub_server.gateway.dashboards.tables.certificates import certificate_operations
from hub_server.gateway.dashboards.tables.commands import command_operations
from hub_server.gateway.dashboards.tables.fleet import FleetOperations
from hub_server.gateway.dashboards.tables.inventory import inventory_operations
from hub_server.gateway.dashboards.tables.joining import joining_operations
from hub_server.gateway.dashboards.tables.organisations import organisation_operations
from hub_server.gateway.dashboards.tables.people import people_operations
from hub_server.gateway.dashboards.tables.policies import policy_operations
from hub_server.gateway.dashboards.tables.telemetry import telemetry_operations
from hub_server.gateway.dashboards.tables.vitals import vitals_operations
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.rest.origins import Origins


@dataclass(frozen=True, slots=True)
class Dashboards:
    server: DashboardServer
    feed: LiveFeed
    announcer: Announcer
    lines: Lines


def dashboards_on(base: Foundation, subjects: Subjects) -> Dashboards:
    lines = Lines()
    first = FirstAgents(subjects.fleet)
    view = FleetView(
        fleet=subjects.fleet,
        presence=subjects.presence,
        telemetry=subjects.telemetry,
        alerts=subjects.alerts,
        commands=subjects.commands,
        clock_offset_ms=subjects.skew.offset_ms,
    )
    feed = LiveFeed(
        bus=base.bus,
        clock=base.clock,
        lines=lines,
        fleet=subjects.fleet,
        view=view,
        first=first,
        telemetry=subjects.telemetry,
    )
    announcer = Announcer(bus=base.bus, lines=lines, fleet=subjects.fleet, view=view, first=first)
    operations = _operations(base, subjects, view, feed)
    server = DashboardServer(
        sockets=Sockets(
            Origins(base.settings.web_origins, base.settings.people.trusted_proxies), lines.traffic, Bounds()
        ),
        lines=lines,
        clock=base.clock,
        access=subjects.people.access,
        operations=operations,
        announcer=announcer,
        feed=feed,
        addresses=AddressReader(base.settings.people.trusted_proxies),
        pace=Pace(
            base.clock,
            per_second=base.settings.access.operations_per_second,
            at_once=base.settings.access.operations_at_once,
        ),
    )
    return Dashboards(server, feed, announcer, lines)


def _operations(base: Foundation, subjects: Subjects, view: FleetView, feed: LiveFeed) -> Operations:
    return Operations(
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
            telemetry_operations(
                telemetry=subjects.telemetry,
                history=subjects.history,
                reports=subjects.reports,
                alerts=subjects.alerts,
                fleet=subjects.fleet,
            ),
            inventory_operations(subjects.inventory),
            vitals_operations(subjects.vitals),
            command_operations(subjects.commands),
            policy_operations(subjects.policies, subjects.compliance),
            joining_operations(subjects.enrollment),
            organisation_operations(subjects.organisations),
            audit_operations(subjects.audit),
            people_operations(subjects.people.accounts, subjects.people.users, subjects.people.api_keys),
        )
    )
