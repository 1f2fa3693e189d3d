"""Events the hub sends to dashboards over Socket.IO; their names are in DASHBOARD_EVENTS.

`timestamp`, chart points and `…Ms` are ms since the epoch; `at`, `…At` and `lastSeen` are ISO 8601 in UTC (seed 004,
"List Agents").
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from protocol.enumerations import (
    AgentStatus,
    AgentTrust,
    AlertSeverity,
    AlertState,
    CommandReason,
    CommandStatus,
    OutputStream,
    TextEncoding,
)
from protocol.frames import MetricValue

Instant = Annotated[datetime, Meta(tz=True)]


class Shape(Struct, frozen=True, rename="camel", kw_only=True):
    """A value shown to people and programs."""


class DashboardEvent(Struct, frozen=True, rename="camel", kw_only=True):
    """Base of the dashboards' events."""


class RelatedCounts(Shape, frozen=True):
    metrics: int = 0
    alerts: int = 0
    commands: int = 0


class AgentSummary(Shape, frozen=True):
    """One machine in a list. `metrics` are its newest system values; `status_reason` says why it is not ACTIVE."""

    id: str
    hostname: str
    name: str
    status: AgentStatus
    status_reason: str
    os_type: str
    os_version: str
    arch: str
    agent_version: str
    ip_addresses: list[str]
    site: str
    tags: list[str]
    last_seen: Instant | None
    enrolled_at: Instant
    metrics: dict[str, MetricValue]
    sampled_at_ms: int | None = None
    trust: AgentTrust = AgentTrust.TRUSTED
    status_since: Instant | None = None
    clock_offset_ms: int | None = None
    """How far the machine's clock is ahead of the hub's; null until it was measured."""
    counts: RelatedCounts = field(default=RelatedCounts(), name="_count")


class FleetCounts(Shape, frozen=True):
    """The seed dashboard's statistics (seed 004, "Metrics Displayed")."""

    active: int = 0
    offline: int = 0
    error: int = 0
    maintenance: int = 0
    open_alerts: int = 0
    pending_commands: int = 0


class AgentsStatus(DashboardEvent, frozen=True):
    """At connect the first 100 agents by name; afterwards deltas, whose `agents` are only those that changed."""

    agents: list[AgentSummary]
    total: int
    counts: FleetCounts
    version: int
    delta: bool = False
    removed: list[str] = []


class AgentConnected(DashboardEvent, frozen=True):
    agent_id: str
    hostname: str
    at: Instant
    reason: str = "connected"


class AgentDisconnected(DashboardEvent, frozen=True):
    agent_id: str
    hostname: str
    at: Instant
    reason: str


class AgentMetrics(DashboardEvent, frozen=True):
    agent_id: str
    metric_type: str
    metric_data: dict[str, MetricValue]
    timestamp: int


class FeedSample(Shape, frozen=True):
    agent_id: str
    metric_type: str
    metric_data: dict[str, MetricValue]
    timestamp: int


class AgentsMetrics(DashboardEvent, frozen=True):
    """One tick of a feed. The client confirms several with one `feed:ack`; who lags gets a snapshot when it is back.

    `agent_ids`: the machines in view, in its order; given in a snapshot, and when they have changed.
    """

    version: int
    samples: list[FeedSample]
    snapshot: bool = False
    agent_ids: list[str] | None = None


class AgentAlert(DashboardEvent, frozen=True):
    agent_id: str
    alert_id: str
    type: str
    severity: AlertSeverity
    message: str
    state: AlertState
    at: Instant


class AgentCommandStatus(DashboardEvent, frozen=True):
    """Also sent when somebody asks for the end of a command that goes on until its agent has ended it."""

    agent_id: str
    command_id: str
    status: CommandStatus
    cancel_requested: bool = False


class AgentCommandOutput(DashboardEvent, frozen=True):
    agent_id: str
    command_id: str
    stream: OutputStream
    offset: int
    data: str
    encoding: TextEncoding


class AgentCommandResult(DashboardEvent, frozen=True):
    agent_id: str
    command_id: str
    status: CommandStatus
    exit_code: int | None
    reason: CommandReason | None
    result: str
    finished_at: Instant | None


DASHBOARD_EVENTS: Final[Mapping[str, type[DashboardEvent]]] = {
    "agents:status": AgentsStatus,
    "agent:connected": AgentConnected,
    "agent:disconnected": AgentDisconnected,
    "agent:metrics": AgentMetrics,
    "agents:metrics": AgentsMetrics,
    "agent:alert": AgentAlert,
    "agent:command:status": AgentCommandStatus,
    "agent:command:output": AgentCommandOutput,
    "agent:command:result": AgentCommandResult,
}
_NAMES: Final = {event: name for name, event in DASHBOARD_EVENTS.items()}


def name_of(event: DashboardEvent) -> str:
    """Return the Socket.IO event name of `event`."""
    return _NAMES[type(event)]
