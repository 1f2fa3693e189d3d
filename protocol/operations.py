"""Operations of the dashboards' socket: name → request and reply.

A reply travels as `{"ok": true, …its fields}`; a refusal as `{"ok": false, "error": {code, message, path?,
retryAfterSec?}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple

from msgspec import UNSET, Meta, UnsetType, field

from protocol.commands import (
    CommandReply,
    CommandsCancel,
    CommandsCreate,
    CommandsGet,
    CommandsList,
    CommandsListReply,
    CommandsOutput,
    CommandsOutputReply,
)
from protocol.desired import AgentConfig
from protocol.elements import Word
from protocol.enumerations import (
    AgentTrust,
    AlertSeverity,
    AlertState,
)
from protocol.events import AgentSummary, FleetCounts, Instant, Shape
from protocol.joining import (
    ApprovalReply,
    ApprovalsDecide,
    ApprovalsList,
    ApprovalsListReply,
    OrganisationKeysCreate,
    OrganisationKeysCreateReply,
    OrganisationKeysList,
    OrganisationKeysListReply,
    OrganisationKeysRevoke,
    OrganisationKeysRevokeReply,
    TokensCreate,
    TokensCreateReply,
    TokensList,
    TokensListReply,
    TokensRevoke,
    TokensRevokeReply,
)
from protocol.oversight import (
    AuditSearch,
    AuditSearchReply,
    AuthoritiesList,
    AuthoritiesListReply,
    CertificatesList,
    CertificatesListReply,
)
from protocol.people import (
    AccountBeginTotp,
    AccountBeginTotpReply,
    AccountConfirmTotp,
    AccountGet,
    AccountGetReply,
    AccountNewRecoveryCodes,
    AccountRemoveTotp,
    AccountSetPassword,
    AccountSignOutEverywhere,
    ApiKeyReply,
    ApiKeysCreate,
    ApiKeysCreateReply,
    ApiKeysList,
    ApiKeysListReply,
    ApiKeysRevoke,
    OrganisationReply,
    OrganisationsCreate,
    OrganisationsList,
    OrganisationsListReply,
    OrganisationsUpdate,
    RecoveryCodesReply,
    RolesList,
    RolesListReply,
    UserReply,
    UsersCreate,
    UsersList,
    UsersListReply,
    UsersName,
    UsersSetPassword,
    UsersSetRole,
)
from protocol.policies import (
    ComplianceList,
    ComplianceListReply,
    ComplianceSummary,
    ComplianceSummaryReply,
    PoliciesCreate,
    PoliciesDelete,
    PoliciesGet,
    PoliciesList,
    PoliciesListReply,
    PoliciesUpdate,
    PolicyReply,
)
from protocol.requests import AgentFilter, Ids, Label, Limit, Name, Offset, Percent, Reply, Request, Tags
from protocol.telemetry import (
    HubHealth,
    HubHealthReply,
    HubMetrics,
    InventoryGet,
    InventoryGetReply,
    MetricsNewest,
    MetricsNewestReply,
    MetricsQuery,
    MetricsQueryReply,
    ReportsList,
    ReportsListReply,
)

FleetOrder = Literal[
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
]
"""By newest value where it names a metric; agents without one come last."""


class AgentsList(Request, frozen=True):
    filter: AgentFilter = AgentFilter()
    sort: FleetOrder = "name"
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
    trust: AgentTrust
    trust_reason: str
    certificate_expires_at: Instant | None


class AgentConfigInput(AgentConfig, frozen=True, forbid_unknown_fields=True):
    """An AgentConfig as people give it: a mistyped field is refused, never ignored."""


class AgentsUpdate(Request, frozen=True):
    """Only the fields that are given change; what a given `config` or `thresholds` leaves out gets its default."""

    agent_id: Word
    name: Name | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    site: Label | UnsetType = UNSET
    config: AgentConfigInput | UnsetType = UNSET
    thresholds: Thresholds | UnsetType = UNSET


class AgentsDelete(Request, frozen=True):
    agent_id: Word


class AgentsRevoke(Request, frozen=True):
    """The agent's certificates are worth nothing from now on; its history stays. It can only enroll anew."""

    agent_id: Word
    reason: Label = ""


class AgentsQuarantine(Request, frozen=True):
    """Keep the agent out until it is released; its certificates stay."""

    agent_id: Word
    reason: Label = ""


class AgentsRelease(Request, frozen=True):
    agent_id: Word


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


class FeedSubscribe(Request, frozen=True):
    """Switch this socket from single `agent:metrics` events to batches for the agents in view.

    Without `agent_ids` the view follows the fleet: it shows what passes the filter, whatever comes and goes.
    """

    agent_ids: Ids | None = None
    filter: AgentFilter = AgentFilter()
    sort: FleetOrder = "name"
    offset: Offset = 0
    limit: Limit = 100
    metrics: Annotated[list[Word], Meta(max_length=64)] = field(default_factory=list)
    metric_types: Annotated[list[Word], Meta(max_length=64)] = field(default_factory=list)


class FeedSubscribeReply(Reply, frozen=True):
    """What is watched from now on. One `feed:ack` may confirm `confirm_every` versions; more often does no harm."""

    version: int
    agent_ids: list[str]
    confirm_every: int = 1


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
    "agents:revoke": Operation(AgentsRevoke, AgentsGetReply),
    "agents:quarantine": Operation(AgentsQuarantine, AgentsGetReply),
    "agents:release": Operation(AgentsRelease, AgentsGetReply),
    "metrics:query": Operation(MetricsQuery, MetricsQueryReply),
    "metrics:newest": Operation(MetricsNewest, MetricsNewestReply),
    "reports:list": Operation(ReportsList, ReportsListReply),
    "inventory:get": Operation(InventoryGet, InventoryGetReply),
    "hub:health": Operation(HubHealth, HubHealthReply),
    "hub:metrics": Operation(HubMetrics, MetricsQueryReply),
    "alerts:list": Operation(AlertsList, AlertsListReply),
    "alerts:resolve": Operation(AlertsResolve, AlertsResolveReply),
    "commands:create": Operation(CommandsCreate, CommandReply),
    "commands:list": Operation(CommandsList, CommandsListReply),
    "commands:get": Operation(CommandsGet, CommandReply),
    "commands:cancel": Operation(CommandsCancel, CommandReply),
    "commands:output": Operation(CommandsOutput, CommandsOutputReply),
    "policies:list": Operation(PoliciesList, PoliciesListReply),
    "policies:get": Operation(PoliciesGet, PolicyReply),
    "policies:create": Operation(PoliciesCreate, PolicyReply),
    "policies:update": Operation(PoliciesUpdate, PolicyReply),
    "policies:delete": Operation(PoliciesDelete, Reply),
    "compliance:list": Operation(ComplianceList, ComplianceListReply),
    "compliance:summary": Operation(ComplianceSummary, ComplianceSummaryReply),
    "tokens:create": Operation(TokensCreate, TokensCreateReply),
    "tokens:list": Operation(TokensList, TokensListReply),
    "tokens:revoke": Operation(TokensRevoke, TokensRevokeReply),
    "organisation-keys:create": Operation(OrganisationKeysCreate, OrganisationKeysCreateReply),
    "organisation-keys:list": Operation(OrganisationKeysList, OrganisationKeysListReply),
    "organisation-keys:revoke": Operation(OrganisationKeysRevoke, OrganisationKeysRevokeReply),
    "approvals:list": Operation(ApprovalsList, ApprovalsListReply),
    "approvals:approve": Operation(ApprovalsDecide, ApprovalReply),
    "approvals:reject": Operation(ApprovalsDecide, ApprovalReply),
    "certificates:list": Operation(CertificatesList, CertificatesListReply),
    "authorities:list": Operation(AuthoritiesList, AuthoritiesListReply),
    "account:get": Operation(AccountGet, AccountGetReply),
    "account:set-password": Operation(AccountSetPassword, Reply),
    "account:begin-totp": Operation(AccountBeginTotp, AccountBeginTotpReply),
    "account:confirm-totp": Operation(AccountConfirmTotp, RecoveryCodesReply),
    "account:remove-totp": Operation(AccountRemoveTotp, Reply),
    "account:new-recovery-codes": Operation(AccountNewRecoveryCodes, RecoveryCodesReply),
    "account:sign-out-everywhere": Operation(AccountSignOutEverywhere, Reply),
    "users:list": Operation(UsersList, UsersListReply),
    "users:create": Operation(UsersCreate, UserReply),
    "users:set-role": Operation(UsersSetRole, UserReply),
    "users:set-password": Operation(UsersSetPassword, UserReply),
    "users:remove-totp": Operation(UsersName, UserReply),
    "users:lock": Operation(UsersName, UserReply),
    "users:unlock": Operation(UsersName, UserReply),
    "users:remove": Operation(UsersName, Reply),
    "roles:list": Operation(RolesList, RolesListReply),
    "api-keys:create": Operation(ApiKeysCreate, ApiKeysCreateReply),
    "api-keys:list": Operation(ApiKeysList, ApiKeysListReply),
    "api-keys:revoke": Operation(ApiKeysRevoke, ApiKeyReply),
    "organisations:list": Operation(OrganisationsList, OrganisationsListReply),
    "organisations:create": Operation(OrganisationsCreate, OrganisationReply),
    "organisations:update": Operation(OrganisationsUpdate, OrganisationReply),
    "audit:search": Operation(AuditSearch, AuditSearchReply),
    "feed:subscribe": Operation(FeedSubscribe, FeedSubscribeReply),
    "feed:ack": Operation(FeedAck, Reply),
    "auth:refresh": Operation(AuthRefresh, AuthRefreshReply),
}
