"""Operations on metrics, reports and alerts."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.alerts.service import AlertService
from hub_server.fleet.service import FleetService
from hub_server.gateway.dashboards.operations import Caller, Entry, Table
from hub_server.telemetry.query import MetricHistory
from hub_server.telemetry.reports import ReportService
from hub_server.telemetry.service import TelemetryService
from protocol.telemetry import MetricsNewest, MetricsNewestReply


def telemetry_operations(
    *,
    telemetry: TelemetryService,
    history: MetricHistory,
    reports: ReportService,
    alerts: AlertService,
    fleet: FleetService,
) -> Table:
    async def newest(caller: Caller, request: MetricsNewest) -> MetricsNewestReply:
        agent = fleet.get(caller.principal.organisation_id, request.agent_id)
        return MetricsNewestReply(metrics=telemetry.newest_metrics(agent.id))

    return {
        "metrics:query": Entry(Permission.FLEET_READ, lambda caller, request: history.query(caller.principal, request)),
        "metrics:newest": Entry(Permission.FLEET_READ, newest),
        "reports:list": Entry(Permission.FLEET_READ, lambda caller, request: reports.list(caller.principal, request)),
        "alerts:list": Entry(Permission.FLEET_READ, lambda caller, request: alerts.list(caller.principal, request)),
        "alerts:resolve": Entry(
            Permission.ALERTS_RESOLVE, lambda caller, request: alerts.resolve(caller.principal, request)
        ),
    }
