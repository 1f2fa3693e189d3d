"""Operations of the dashboards' socket: name → request and reply.

A reply travels as `{"ok": true, …its fields}`; a refusal as `{"ok": false, "error": {code, message, path?,
retryAfterSec?}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType, field

from protocol.desired import AgentConfig
from protocol.enrollment import ErrorBody
from protocol.enumerations import (
    AgentStatus,
    AlertSeverity,
    AlertState,
    CommandReason,
    CommandStatus,
    OutputStream,
    TextEncoding,
)
from protocol.envelope import TimeoutSeconds
from protocol.events import AgentSummary, FleetCounts, Instant, Shape
from protocol.frames import ByteOffset, CommandId, UnixMs, Word

Limit = Annotated[int, Meta(ge=1, le=1000)]
Offset = Annotated[int, Meta(ge=0, le=2**53)]
Label = Annotated[str, Meta(max_length=128)]
Ids = Annotated[list[Word], Meta(max_length=1000)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class Request(Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """A mistyped field is refused, never ignored."""


class Reply(Struct, frozen=True, rename="camel", kw_only=True):
    ok: Literal[True] = True


class Refusal(Struct, frozen=True, rename="camel", kw_only=True):
    error: ErrorBody
    ok: Literal[False] = False


class AgentFilter(Request, frozen=True):
    """Every given condition must hold. `text` is found in name, host name, site, tags or address, in any case."""

    text: Label = ""
    status: list[AgentStatus] = []
    tags: list[Label] = []
    site: Label | None = None


class AgentsList(Request, frozen=True):
    filter: AgentFilter = AgentFilter()
    sort: Literal[
        "name",
        "-name",
        "lastSeen",
        "-lastSeen",
        "cpu",
        "-cpu",
        "memory",
        "-memory",
        "disk",
        "-disk",
        "status",
        "-status",
    ] = "name"
    limit: Limit = 100
    offset: Offset = 0


class AgentsListReply(Reply, frozen=True):
    agents: list[AgentSummary]
    total: int
    limit: int
    offset: int
    counts: FleetCounts


class AgentsGet(Request, frozen=True):
    agent_id: Word


class Thresholds(Request, frozen=True):
    """Percent above which an alert is raised (seed 004, "Automatic Alert Generation")."""

    cpu_warning: Percent = 80
    cpu_critical: Percent = 90
    memory_warning: Percent = 80
    memory_critical: Percent = 90
    disk_warning: Percent = 75
    disk_critical: Percent = 90
    updates_warning: Annotated[int, Meta(ge=0)] = 10


class AgentsGetReply(Reply, frozen=True):
    """`config_applied` is false while the newest configuration is still on offer."""

    agent: AgentSummary
    config: AgentConfig
    config_applied: bool
    thresholds: Thresholds
    certificate_expires_at: Instant | None


class AgentConfigInput(AgentConfig, frozen=True, forbid_unknown_fields=True):
    """An AgentConfig as people give it: a mistyped field is refused, never ignored."""


class AgentsUpdate(Request, frozen=True):
    """Only the fields that are given change; what a given `config` or `thresholds` leaves out gets its default."""

    agent_id: Word
    name: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=64)] | UnsetType = UNSET
    site: Label | UnsetType = UNSET
    config: AgentConfigInput | UnsetType = UNSET
    thresholds: Thresholds | UnsetType = UNSET


class AgentsDelete(Request, frozen=True):
    agent_id: Word


class MetricsQuery(Request, frozen=True):
    """Times in ms since the epoch, `from` included, `to` excluded."""

    agent_ids: Annotated[list[Word], Meta(min_length=1, max_length=100)]
    metrics: Annotated[list[Word], Meta(min_length=1, max_length=32)]
    from_: UnixMs = field(name="from")
    to: UnixMs
    metric_type: Word = "system"
    max_points: Annotated[int, Meta(ge=1, le=5000)] = 500


class MetricSeries(Shape, frozen=True):
    """`timestamps` in ms, ascending; `values[metric]` runs beside them, null where a bucket holds none."""

    agent_id: str
    timestamps: list[int]
    values: dict[str, list[float | None]]


class MetricsQueryReply(Reply, frozen=True):
    """`resolution_sec` 0 means raw samples; otherwise a point is the mean of its bucket (counters: the last value)."""

    series: list[MetricSeries]
    resolution_sec: int


class AlertsList(Request, frozen=True):
    agent_id: Word | None = None
    state: AlertState | None = None
    limit: Limit = 100
    offset: Offset = 0


class AlertView(Shape, frozen=True):
    id: str
    agent_id: str
    hostname: str
    type: str
    severity: AlertSeverity
    message: str
    state: AlertState
    opened_at: Instant
    resolved_at: Instant | None
    resolved_by: str | None


class AlertsListReply(Reply, frozen=True):
    alerts: list[AlertView]
    total: int
    limit: int
    offset: int


class AlertsResolve(Request, frozen=True):
    alert_id: Word


class AlertsResolveReply(Reply, frozen=True):
    alert: AlertView


class CommandsCreate(Request, frozen=True):
    """`commandData` of `exec` is a `protocol.envelope.ExecData`. The same idempotency key gives the same command."""

    agent_id: Word
    command_data: dict[str, Any]
    command_type: Literal["exec"] = "exec"
    timeout_sec: TimeoutSeconds | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class CommandView(Shape, frozen=True):
    id: str
    agent_id: str
    command_type: str
    command_data: dict[str, Any]
    status: CommandStatus
    reason: CommandReason | None
    exit_code: int | None
    result: str
    created_at: Instant
    created_by: str
    started_at: Instant | None
    finished_at: Instant | None
    expires_at: Instant
    output_bytes: dict[OutputStream, int]
    truncated: bool


class CommandReply(Reply, frozen=True):
    command: CommandView


class CommandsList(Request, frozen=True):
    agent_id: Word | None = None
    status: CommandStatus | None = None
    limit: Limit = 50
    offset: Offset = 0


class CommandsListReply(Reply, frozen=True):
    commands: list[CommandView]
    total: int
    limit: int
    offset: int


class CommandsGet(Request, frozen=True):
    command_id: CommandId


class CommandsCancel(Request, frozen=True):
    command_id: CommandId


class CommandsOutput(Request, frozen=True):
    command_id: CommandId
    stream: OutputStream
    offset: ByteOffset = 0


class CommandsOutputReply(Reply, frozen=True):
    """Output from `offset` on, at most 64 KiB; ask again from `next_offset` until `complete`."""

    command_id: str
    stream: OutputStream
    offset: int
    data: str
    encoding: TextEncoding
    next_offset: int
    complete: bool


class TokensCreate(Request, frozen=True):
    site: Label = ""
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=64)] = []
    uses: Annotated[int, Meta(ge=1, le=10000)] = 1
    ttl_sec: Annotated[int, Meta(ge=60, le=30 * 86400)] = 1800


class TokenView(Shape, frozen=True):
    id: str
    site: str
    tags: list[str]
    uses: int
    used: int
    created_at: Instant
    created_by: str
    expires_at: Instant
    revoked_at: Instant | None


class TokensCreateReply(Reply, frozen=True):
    """The only time the secret is shown: the hub keeps its hash."""

    token: TokenView
    token_text: str
    join_string: str


class TokensList(Request, frozen=True):
    limit: Limit = 100
    offset: Offset = 0


class TokensListReply(Reply, frozen=True):
    tokens: list[TokenView]
    total: int
    limit: int
    offset: int


class TokensRevoke(Request, frozen=True):
    token_id: Word


class TokensRevokeReply(Reply, frozen=True):
    token: TokenView


class FeedSubscribe(Request, frozen=True):
    """Switch this socket from single `agent:metrics` events to batches for the agents in view."""

    agent_ids: Ids | None = None
    filter: AgentFilter = AgentFilter()
    sort: str = "name"
    offset: Offset = 0
    limit: Limit = 100
    metrics: Annotated[list[Word], Meta(max_length=64)] = []


class FeedSubscribeReply(Reply, frozen=True):
    version: int
    agent_ids: list[str]


class FeedAck(Request, frozen=True):
    version: Annotated[int, Meta(ge=0)]


class AuthRefresh(Request, frozen=True):
    token: Annotated[str, Meta(max_length=4096)]


class AuthRefreshReply(Reply, frozen=True):
    expires_in_sec: int


class Operation(NamedTuple):
    request: type[Request]
    reply: type[Reply]


OPERATIONS: Final[Mapping[str, Operation]] = {
    "agents:list": Operation(AgentsList, AgentsListReply),
    "agents:get": Operation(AgentsGet, AgentsGetReply),
    "agents:update": Operation(AgentsUpdate, AgentsGetReply),
    "agents:delete": Operation(AgentsDelete, Reply),
    "metrics:query": Operation(MetricsQuery, MetricsQueryReply),
    "alerts:list": Operation(AlertsList, AlertsListReply),
    "alerts:resolve": Operation(AlertsResolve, AlertsResolveReply),
    "commands:create": Operation(CommandsCreate, CommandReply),
    "commands:list": Operation(CommandsList, CommandsListReply),
    "commands:get": Operation(CommandsGet, CommandReply),
    "commands:cancel": Operation(CommandsCancel, CommandReply),
    "commands:output": Operation(CommandsOutput, CommandsOutputReply),
    "tokens:create": Operation(TokensCreate, TokensCreateReply),
    "tokens:list": Operation(TokensList, TokensListReply),
    "tokens:revoke": Operation(TokensRevoke, TokensRevokeReply),
    "feed:subscribe": Operation(FeedSubscribe, FeedSubscribeReply),
    "feed:ack": Operation(FeedAck, Reply),
    "auth:refresh": Operation(AuthRefresh, AuthRefreshReply),
}
