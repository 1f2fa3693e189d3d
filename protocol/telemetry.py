"""Operations on what agents send: history, newest values, reports, and the hub's own figures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from protocol.elements import UnixMs, Word
from protocol.events import Instant, Shape
from protocol.frames import MetricValue
from protocol.requests import AgentFilter, Label, Limit, Offset, Reply, Request

MetricNames = Annotated[list[Word], Meta(min_length=1, max_length=32)]
MaxPoints = Annotated[int, Meta(ge=1, le=5000)]
Resolution = Literal["raw", "1m", "5m", "1h"]
Grouping = Literal["all", "site", "os", "tag"]


class MetricsQuery(Request, frozen=True):
    """Times in ms since the epoch, `from` included, `to` excluded.

    Either `agentIds` or a `filter`. With `groupBy` a series stands for all agents of a group; an agent with several
    tags counts in each of them.
    """

    metrics: MetricNames
    from_: UnixMs = field(name="from")
    to: UnixMs
    agent_ids: Annotated[list[Word], Meta(min_length=1, max_length=100)] | None = None
    filter: AgentFilter | None = None
    group_by: Grouping | None = None
    metric_type: Word = "system"
    max_points: MaxPoints = 500


class MetricSeries(Shape, frozen=True):
    """`timestamps` in ms, ascending; `values[metric]` runs beside them, null where a bucket holds none.

    `minima` and `maxima` run beside them too for all but counters, and are empty where every point is one sample. Of a
    group `agentId` is empty, `group` its name (empty too for the agents without one), and `agents` how many it has.
    """

    agent_id: str
    timestamps: list[int]
    values: dict[str, list[float | None]]
    minima: dict[str, list[float | None]] = field(default_factory=dict)
    maxima: dict[str, list[float | None]] = field(default_factory=dict)
    group: str = ""
    agents: int = 1


class MetricsQueryReply(Reply, frozen=True):
    """`resolution_sec` 0 means raw samples; otherwise a point is the mean of its bucket (counters: the last value).

    `resolution` says what was read: samples, or their rollups of 1 min, 5 min or 1 h.
    """

    series: list[MetricSeries]
    resolution_sec: int
    resolution: Resolution = "raw"


class MetricsNewest(Request, frozen=True):
    agent_id: Word


class NewestMetric(Shape, frozen=True):
    metric_type: str
    timestamp: int
    metric_data: dict[str, MetricValue]


class MetricsNewestReply(Reply, frozen=True):
    """The newest sample of each metric type of one agent, sorted by type."""

    metrics: list[NewestMetric]


class ReportsList(Request, frozen=True):
    """What agents reported of themselves: disconnections, gaps, failing collectors. Newest first."""

    agent_id: Word | None = None
    kinds: Annotated[list[Word], Meta(max_length=32)] = field(default_factory=list)
    limit: Limit = 100
    offset: Offset = 0


class ReportView(Shape, frozen=True):
    agent_id: str
    at: Instant
    kind: str
    data: dict[str, Any]


class ReportsListReply(Reply, frozen=True):
    reports: list[ReportView]
    total: int
    limit: int
    offset: int


class HubMetrics(Request, frozen=True):
    """History of the hub's own figures; names as in the newest ones."""

    metrics: MetricNames
    from_: UnixMs = field(name="from")
    to: UnixMs
    max_points: MaxPoints = 500


class HubHealth(Request, frozen=True):
    pass


class HubHealthReply(Reply, frozen=True):
    """The newest of the hub's own figures by name: loop lag, collections, queues, commits, what was dropped."""

    hub_id: str
    started_at: Instant
    figures: dict[str, float]


class InventoryGet(Request, frozen=True):
    agent_id: Word


class InventorySection(Shape, frozen=True):
    """`body` as in protocol/inventory.py; `at` is when the hub stored it."""

    section: Label
    hash: str
    at: Instant
    body: dict[str, Any]


class InventoryGetReply(Reply, frozen=True):
    sections: list[InventorySection]
