"""What browsers and scripts talk to: the operations table, the feed, the socket."""

from __future__ import annotations

from dataclasses import dataclass

from hub_server.composition.foundation import Foundation
from hub_server.composition.subjects import Subjects
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
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.rest.origins import Origins


@dataclass(frozen=True, slots=True)
class Dashboards:
    server: DashboardServer
    feed: LiveFeed
    announcer: Announcer


def dashboards_on(base: Foundation, subjects: Subjects) -> Dashboards:
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
    operations = _operations(base, subjects, view, feed)
    server = DashboardServer(
        rooms=rooms,
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
    return Dashboards(server, feed, announcer)


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
            telemetry_operations(subjects.telemetry, subjects.alerts),
            command_operations(subjects.commands),
            joining_operations(subjects.enrollment),
            organisation_operations(subjects.organisations),
            audit_operations(subjects.audit),
            people_operations(subjects.people.accounts, subjects.people.users, subjects.people.api_keys),
        )
    )
