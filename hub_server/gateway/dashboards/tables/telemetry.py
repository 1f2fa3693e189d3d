"""Operations on metrics and alerts."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.alerts.service import AlertService
from hub_server.gateway.dashboards.operations import Entry, Table
from hub_server.telemetry.service import TelemetryService


def telemetry_operations(telemetry: TelemetryService, alerts: AlertService) -> Table:
    return {
        "metrics:query": Entry(
            Permission.FLEET_READ, lambda caller, request: telemetry.query(caller.principal, request)
        ),
        "alerts:list": Entry(Permission.FLEET_READ, lambda caller, request: alerts.list(caller.principal, request)),
        "alerts:resolve": Entry(
            Permission.ALERTS_RESOLVE, lambda caller, request: alerts.resolve(caller.principal, request)
        ),
    }
