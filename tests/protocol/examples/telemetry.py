"""Examples of the operations on what agents send."""

from collections.abc import Mapping
from typing import Final

from protocol.enumerations import AgentStatus
from protocol.requests import AgentFilter, Reply, Request
from protocol.telemetry import (
    HubHealth,
    HubHealthReply,
    HubMetrics,
    InventoryGet,
    InventoryGetReply,
    InventorySection,
    MetricSeries,
    MetricsNewest,
    MetricsNewestReply,
    MetricsQuery,
    MetricsQueryReply,
    NewestMetric,
    ReportsList,
    ReportsListReply,
    ReportView,
)
from tests.protocol.examples.events import AGENT_ID, AT
from tests.protocol.examples.frames import NOW_MS

FILTER: Final = AgentFilter(text="web", status=[AgentStatus.ACTIVE], tags=["web"], site="Oslo", ids=["01K9TZTWY2"])
SPAN: Final = {"from_": NOW_MS - 3_600_000, "to": NOW_MS}
SERIES: Final = MetricSeries(
    agent_id="",
    timestamps=[NOW_MS - 60_000, NOW_MS],
    values={"cpu_percent": [12.5, None]},
    minima={"cpu_percent": [2.5, None]},
    maxima={"cpu_percent": [99.5, None]},
    group="Oslo",
    agents=25,
)
REQUESTS: Final[Mapping[str, Request]] = {
    "metrics:query": MetricsQuery(
        agent_ids=[AGENT_ID],
        filter=FILTER,
        metrics=["cpu_percent"],
        from_=NOW_MS - 3_600_000,
        to=NOW_MS,
        group_by="site",
        metric_type="disk",
        max_points=300,
    ),
    "metrics:newest": MetricsNewest(agent_id=AGENT_ID),
    "reports:list": ReportsList(agent_id=AGENT_ID, kinds=["gap"], limit=20, offset=40),
    "inventory:get": InventoryGet(agent_id=AGENT_ID),
    "hub:health": HubHealth(),
    "hub:metrics": HubMetrics(metrics=["loop_lag_p99_ms"], from_=NOW_MS - 3_600_000, to=NOW_MS, max_points=300),
}
REPLIES: Final[Mapping[str, Reply]] = {
    "metrics:query": MetricsQueryReply(series=[SERIES], resolution_sec=60, resolution="1m"),
    "metrics:newest": MetricsNewestReply(
        metrics=[NewestMetric(metric_type="disk./", timestamp=NOW_MS, metric_data={"percent": 41.5, "mount": "/"})]
    ),
    "reports:list": ReportsListReply(
        reports=[ReportView(agent_id=AGENT_ID, at=AT, kind="gap", data={"dropped": 12})], total=41, limit=20, offset=40
    ),
    "inventory:get": InventoryGetReply(
        sections=[
            InventorySection(
                section="packages", hash="i1", at=AT, body={"items": [{"name": "openssl", "version": "3.0.15"}]}
            )
        ]
    ),
    "hub:health": HubHealthReply(hub_id="hub-1", started_at=AT, figures={"loop_lag_p99_ms": 2.5}),
    "hub:metrics": MetricsQueryReply(series=[SERIES], resolution_sec=60, resolution="1m"),
}
