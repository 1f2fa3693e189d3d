/* Written by `python -m scripts.generate` from the structs in protocol/. Do not edit. */

/**
 * The status people see. Derived from connection, maintenance and health; never stored.
 */
export type AgentStatus = "ACTIVE" | "ERROR" | "MAINTENANCE" | "OFFLINE";
export type MetricValue =
  | boolean
  | number
  | string
  | {
      [k: string]: boolean | number | string | null;
    }[]
  | null;
/**
 * Whether the hub lets an agent in.
 */
export type AgentTrust = "quarantined" | "revoked" | "trusted";
export type AlertState = "OPEN" | "RESOLVED";
export type AlertSeverity = "CRITICAL" | "ERROR" | "INFO" | "WARNING";
/**
 * What a job does: the `commandType` of a command and the `action` of its signed order.
 */
export type Action = "agent:restart" | "exec" | "kill" | "packages" | "reboot" | "script" | "service";
export type CommandStatus = "CANCELLED" | "COMPLETED" | "EXECUTING" | "FAILED" | "PENDING" | "SENT";
/**
 * Why a command ended as it did, where the status alone does not say.
 */
export type CommandReason =
  | "cancelled_by_person"
  | "denied_by_agent"
  | "exit_code"
  | "expired"
  | "interrupted"
  | "start_failed"
  | "timeout"
  | "unknown";
export type OutputStream = "stderr" | "stdout";
export type TextEncoding = "base64" | "utf8";
/**
 * What a machine may be asked to do at all. `jobs` is every action, each other one of them in particular.
 */
export type Capability = "jobs" | "packages" | "processes" | "reboot" | "scripts" | "services";
/**
 * What the hub knows of a machine. `package` and `service.…` are of one by name, `…_days` are whole days.
 */
export type Fact =
  | "agent.version"
  | "hardware.cpu_cores"
  | "hardware.firmware"
  | "hardware.manufacturer"
  | "hardware.memory_total_bytes"
  | "hardware.model"
  | "hardware.virtualization"
  | "os.arch"
  | "os.kernel"
  | "os.name"
  | "os.timezone"
  | "os.version"
  | "package"
  | "security.antivirus_enabled"
  | "security.automatic_updates_enabled"
  | "security.facts_age_days"
  | "security.firewall_enabled"
  | "security.reboot_required"
  | "security.security_updates"
  | "security.updates_age_days"
  | "security.updates_available"
  | "service.starts"
  | "service.state";
/**
 * How a found value is compared. Texts are compared in any case; `version_at_least` knows epochs and `~`.
 */
export type CheckOperator =
  "absent" | "at_least" | "at_most" | "contains" | "equals" | "not_equals" | "one_of" | "present" | "version_at_least";
/**
 * `unknown`: the machine has not told the fact.
 */
export type CheckState = "failed" | "passed" | "unknown";
export type ApprovalState = "approved" | "expired" | "pending" | "rejected";
export type ApprovalKind = "enroll" | "recover";
/**
 * `superseded`: the agent was seen with a newer one.
 */
export type CertificateState = "current" | "expired" | "revoked" | "superseded";
/**
 * What a key of the hub is for.
 */
export type AuthorityUse = "access" | "agents" | "audit" | "jobs" | "root" | "servers";
/**
 * `next`: trusted by agents already, not used yet. `retiring`: no longer used, what it made still counts.
 */
export type AuthorityState = "active" | "next" | "retiring";
/**
 * What a person is in an organisation.
 */
export type Role = "approver" | "auditor" | "hub-admin" | "operator" | "org-admin" | "technician" | "viewer";
/**
 * What went wrong, for programs. The message beside it is for people and may change.
 */
export type ErrorCode =
  | "busy"
  | "conflict"
  | "forbidden"
  | "internal"
  | "invalid_request"
  | "key_in_use"
  | "not_found"
  | "otp_required"
  | "quota"
  | "rate_limited"
  | "token_refused"
  | "too_large"
  | "unauthenticated"
  | "unavailable"
  | "unknown_operation";

/**
 * Operations of the dashboards' socket: what is asked, and what `ok: true` brings.
 */
export interface Operations {
  /**
   * A page of the fleet, filtered and sorted by the hub, with counts per status.
   */
  "agents:list": {
    request: AgentsList;
    reply: AgentsListReply;
  };
  /**
   * One machine with its configuration and thresholds.
   */
  "agents:get": {
    request: AgentsGet;
    reply: AgentsGetReply;
  };
  /**
   * Change a machine's name, tags, site, configuration or thresholds.
   */
  "agents:update": {
    request: AgentsUpdate;
    reply: AgentsGetReply;
  };
  /**
   * Remove a machine: its identity is revoked and its session closed.
   */
  "agents:delete": {
    request: AgentsDelete;
    reply: Reply;
  };
  /**
   * Make a machine's certificates worthless and close its session; its history stays.
   */
  "agents:revoke": {
    request: AgentsRevoke;
    reply: AgentsGetReply;
  };
  /**
   * Keep a machine out until it is released.
   */
  "agents:quarantine": {
    request: AgentsQuarantine;
    reply: AgentsGetReply;
  };
  /**
   * Let a machine in quarantine in again.
   */
  "agents:release": {
    request: AgentsRelease;
    reply: AgentsGetReply;
  };
  /**
   * Values of some metrics of some machines over a span of time, in buckets.
   */
  "metrics:query": {
    request: MetricsQuery;
    reply: MetricsQueryReply;
  };
  /**
   * The newest sample of each kind of one machine: disks, interfaces, processes, plugins.
   */
  "metrics:newest": {
    request: MetricsNewest;
    reply: MetricsNewestReply;
  };
  /**
   * What machines reported of themselves: lost connections, gaps, failing collectors; newest first.
   */
  "reports:list": {
    request: ReportsList;
    reply: ReportsListReply;
  };
  /**
   * Hardware, operating system, packages and services of one machine.
   */
  "inventory:get": {
    request: InventoryGet;
    reply: InventoryGetReply;
  };
  /**
   * The newest of the hub's own figures: loop lag, collections, queues, commits, what was dropped.
   */
  "hub:health": {
    request: HubHealth;
    reply: HubHealthReply;
  };
  /**
   * History of the hub's own figures.
   */
  "hub:metrics": {
    request: HubMetrics;
    reply: MetricsQueryReply;
  };
  /**
   * A page of alerts, newest first.
   */
  "alerts:list": {
    request: AlertsList;
    reply: AlertsListReply;
  };
  /**
   * Close an open alert by hand.
   */
  "alerts:resolve": {
    request: AlertsResolve;
    reply: AlertsResolveReply;
  };
  /**
   * Order a machine to run a command.
   */
  "commands:create": {
    request: CommandsCreate;
    reply: CommandReply;
  };
  /**
   * A page of commands, newest first.
   */
  "commands:list": {
    request: CommandsList;
    reply: CommandsListReply;
  };
  /**
   * One command.
   */
  "commands:get": {
    request: CommandsGet;
    reply: CommandReply;
  };
  /**
   * Cancel a command that has not ended.
   */
  "commands:cancel": {
    request: CommandsCancel;
    reply: CommandReply;
  };
  /**
   * Stored output of a command from a byte offset on.
   */
  "commands:output": {
    request: CommandsOutput;
    reply: CommandsOutputReply;
  };
  /**
   * The organisation's policies, by name.
   */
  "policies:list": {
    request: PoliciesList;
    reply: PoliciesListReply;
  };
  /**
   * One policy.
   */
  "policies:get": {
    request: PoliciesGet;
    reply: PolicyReply;
  };
  /**
   * Make a policy; it holds for jobs that are asked for from now on.
   */
  "policies:create": {
    request: PoliciesCreate;
    reply: PolicyReply;
  };
  /**
   * Replace what a policy says; jobs that are signed already stay as they are.
   */
  "policies:update": {
    request: PoliciesUpdate;
    reply: PolicyReply;
  };
  /**
   * Remove a policy with the results of its checks.
   */
  "policies:delete": {
    request: PoliciesDelete;
    reply: Reply;
  };
  /**
   * What the checks of policies found on machines, with counts per state.
   */
  "compliance:list": {
    request: ComplianceList;
    reply: ComplianceListReply;
  };
  /**
   * How many machines pass, fail or are unknown, in all and by policy.
   */
  "compliance:summary": {
    request: ComplianceSummary;
    reply: ComplianceSummaryReply;
  };
  /**
   * Make an enrollment token; its secret is shown this once.
   */
  "tokens:create": {
    request: TokensCreate;
    reply: TokensCreateReply;
  };
  /**
   * A page of enrollment tokens, newest first.
   */
  "tokens:list": {
    request: TokensList;
    reply: TokensListReply;
  };
  /**
   * Make an enrollment token useless.
   */
  "tokens:revoke": {
    request: TokensRevoke;
    reply: TokensRevokeReply;
  };
  /**
   * Make a key for `POST /api/agents/register`; its secret is shown this once.
   */
  "organisation-keys:create": {
    request: OrganisationKeysCreate;
    reply: OrganisationKeysCreateReply;
  };
  /**
   * A page of organisation keys, newest first.
   */
  "organisation-keys:list": {
    request: OrganisationKeysList;
    reply: OrganisationKeysListReply;
  };
  /**
   * Make an organisation key useless.
   */
  "organisation-keys:revoke": {
    request: OrganisationKeysRevoke;
    reply: OrganisationKeysRevokeReply;
  };
  /**
   * Machines that wait to be let in, oldest first.
   */
  "approvals:list": {
    request: ApprovalsList;
    reply: ApprovalsListReply;
  };
  /**
   * Let a waiting machine in; it fetches its certificate by itself.
   */
  "approvals:approve": {
    request: ApprovalsDecide;
    reply: ApprovalReply;
  };
  /**
   * Turn a waiting machine away.
   */
  "approvals:reject": {
    request: ApprovalsDecide;
    reply: ApprovalReply;
  };
  /**
   * Certificates of machines, soonest to end first.
   */
  "certificates:list": {
    request: CertificatesList;
    reply: CertificatesListReply;
  };
  /**
   * The hub's certificate authorities and signing keys, and what a person should do about them.
   */
  "authorities:list": {
    request: AuthoritiesList;
    reply: AuthoritiesListReply;
  };
  /**
   * Who asks, what they may do, their second factor and sign-ins.
   */
  "account:get": {
    request: AccountGet;
    reply: AccountGetReply;
  };
  /**
   * Change one's own password; other sign-ins end.
   */
  "account:set-password": {
    request: AccountSetPassword;
    reply: Reply;
  };
  /**
   * A new secret for an authenticator app; it counts once a code of it was confirmed.
   */
  "account:begin-totp": {
    request: AccountBeginTotp;
    reply: AccountBeginTotpReply;
  };
  /**
   * Turn the second factor on; answers recovery codes, shown this once.
   */
  "account:confirm-totp": {
    request: AccountConfirmTotp;
    reply: RecoveryCodesReply;
  };
  /**
   * Turn one's own second factor off.
   */
  "account:remove-totp": {
    request: AccountRemoveTotp;
    reply: Reply;
  };
  /**
   * Replace the recovery codes; shown this once.
   */
  "account:new-recovery-codes": {
    request: AccountNewRecoveryCodes;
    reply: RecoveryCodesReply;
  };
  /**
   * End every sign-in of whoever asks.
   */
  "account:sign-out-everywhere": {
    request: AccountSignOutEverywhere;
    reply: Reply;
  };
  /**
   * People of the organisation.
   */
  "users:list": {
    request: UsersList;
    reply: UsersListReply;
  };
  /**
   * Add a person with a first password and a role no higher than one's own.
   */
  "users:create": {
    request: UsersCreate;
    reply: UserReply;
  };
  /**
   * Change a person's role; their sockets close and they sign in again.
   */
  "users:set-role": {
    request: UsersSetRole;
    reply: UserReply;
  };
  /**
   * Give a person a new password; their sign-ins end.
   */
  "users:set-password": {
    request: UsersSetPassword;
    reply: UserReply;
  };
  /**
   * Turn off the second factor of a person who lost it; their sign-ins end.
   */
  "users:remove-totp": {
    request: UsersName;
    reply: UserReply;
  };
  /**
   * Keep a person out; their sockets close at once.
   */
  "users:lock": {
    request: UsersName;
    reply: UserReply;
  };
  /**
   * Let a locked person in again.
   */
  "users:unlock": {
    request: UsersName;
    reply: UserReply;
  };
  /**
   * Take a person out of the organisation.
   */
  "users:remove": {
    request: UsersName;
    reply: Reply;
  };
  /**
   * The roles, what each may do, and which of them whoever asks may give.
   */
  "roles:list": {
    request: RolesList;
    reply: RolesListReply;
  };
  /**
   * Make a key for a script; its secret is shown this once.
   */
  "api-keys:create": {
    request: ApiKeysCreate;
    reply: ApiKeysCreateReply;
  };
  /**
   * A page of API keys, newest first.
   */
  "api-keys:list": {
    request: ApiKeysList;
    reply: ApiKeysListReply;
  };
  /**
   * Make an API key useless; sockets that use it close.
   */
  "api-keys:revoke": {
    request: ApiKeysRevoke;
    reply: ApiKeyReply;
  };
  /**
   * The organisations of this hub.
   */
  "organisations:list": {
    request: OrganisationsList;
    reply: OrganisationsListReply;
  };
  /**
   * Add an organisation.
   */
  "organisations:create": {
    request: OrganisationsCreate;
    reply: OrganisationReply;
  };
  /**
   * Change an organisation's name or quotas.
   */
  "organisations:update": {
    request: OrganisationsUpdate;
    reply: OrganisationReply;
  };
  /**
   * What was done, newest first.
   */
  "audit:search": {
    request: AuditSearch;
    reply: AuditSearchReply;
  };
  /**
   * Switch this socket from single `agent:metrics` events to batches for the machines in view.
   */
  "feed:subscribe": {
    request: FeedSubscribe;
    reply: FeedSubscribeReply;
  };
  /**
   * Confirm a batch of the feed.
   */
  "feed:ack": {
    request: FeedAck;
    reply: Reply;
  };
  /**
   * Continue this socket with a new access token of the same person.
   */
  "auth:refresh": {
    request: AuthRefresh;
    reply: AuthRefreshReply;
  };
}
export interface AgentsList {
  filter?: AgentFilter;
  sort?:
    | "-cpu"
    | "-disk"
    | "-lastSeen"
    | "-memory"
    | "-name"
    | "-status"
    | "cpu"
    | "disk"
    | "lastSeen"
    | "memory"
    | "name"
    | "status";
  limit?: number;
  offset?: number;
}
/**
 * Every given condition must hold. `text` is found in name, host name, site, tags or address, in any case; `ids`:
 *     none but these.
 */
export interface AgentFilter {
  text?: string;
  status?: AgentStatus[];
  tags?: string[];
  site?: string | null;
  ids?: string[] | null;
}
export interface AgentsListReply {
  agents: AgentSummary[];
  total: number;
  limit: number;
  offset: number;
  counts: FleetCounts;
  ok: true;
}
/**
 * One machine in a list. `metrics` are its newest system values; `statusReason` says why it is not ACTIVE.
 */
export interface AgentSummary {
  id: string;
  hostname: string;
  name: string;
  status: AgentStatus;
  statusReason: string;
  osType: string;
  osVersion: string;
  arch: string;
  agentVersion: string;
  ipAddresses: string[];
  site: string;
  tags: string[];
  lastSeen: string | null;
  enrolledAt: string;
  metrics: {
    [k: string]: MetricValue;
  };
  sampledAtMs: number | null;
  trust: AgentTrust;
  statusSince: string | null;
  clockOffsetMs: number | null;
  _count: RelatedCounts;
}
export interface RelatedCounts {
  metrics: number;
  alerts: number;
  commands: number;
}
/**
 * The seed dashboard's statistics (seed 004, "Metrics Displayed").
 */
export interface FleetCounts {
  active: number;
  offline: number;
  error: number;
  maintenance: number;
  openAlerts: number;
  pendingCommands: number;
}
export interface AgentsGet {
  agentId: string;
}
/**
 * `configApplied` is false while the newest configuration is still on offer.
 */
export interface AgentsGetReply {
  agent: AgentSummary;
  config: AgentConfig;
  configApplied: boolean;
  thresholds: Thresholds;
  trust: AgentTrust;
  trustReason: string;
  certificateExpiresAt: string | null;
  ok: true;
}
/**
 * Settings of an agent that people change on the hub (seed 004, "Agent Configuration").
 */
export interface AgentConfig {
  sampleIntervalSec: number;
  heartbeatIntervalSec: number;
  metricsEnabled: boolean;
  securityChecksEnabled: boolean;
  inventoryEnabled: boolean;
  processesEnabled: boolean;
  loginsEnabled: boolean;
}
/**
 * Percent above which an alert is raised (seed 004, "Automatic Alert Generation").
 */
export interface Thresholds {
  cpuWarning: number;
  cpuCritical: number;
  memoryWarning: number;
  memoryCritical: number;
  diskWarning: number;
  diskCritical: number;
  updatesWarning: number;
}
/**
 * Only the fields that are given change; what a given `config` or `thresholds` leaves out gets its default.
 */
export interface AgentsUpdate {
  agentId: string;
  name?: string;
  /**
   * @maxItems 64
   */
  tags?: string[];
  site?: string;
  config?: AgentConfigInput;
  thresholds?: ThresholdsInput;
}
/**
 * An AgentConfig as people give it: a mistyped field is refused, never ignored.
 */
export interface AgentConfigInput {
  sampleIntervalSec?: number;
  heartbeatIntervalSec?: number;
  metricsEnabled?: boolean;
  securityChecksEnabled?: boolean;
  inventoryEnabled?: boolean;
  processesEnabled?: boolean;
  loginsEnabled?: boolean;
}
/**
 * Percent above which an alert is raised (seed 004, "Automatic Alert Generation").
 */
export interface ThresholdsInput {
  cpuWarning?: number;
  cpuCritical?: number;
  memoryWarning?: number;
  memoryCritical?: number;
  diskWarning?: number;
  diskCritical?: number;
  updatesWarning?: number;
}
export interface AgentsDelete {
  agentId: string;
}
export interface Reply {
  ok: true;
}
/**
 * The agent's certificates are worth nothing from now on; its history stays. It can only enroll anew.
 */
export interface AgentsRevoke {
  agentId: string;
  reason?: string;
}
/**
 * Keep the agent out until it is released; its certificates stay.
 */
export interface AgentsQuarantine {
  agentId: string;
  reason?: string;
}
export interface AgentsRelease {
  agentId: string;
}
/**
 * Times in ms since the epoch, `from` included, `to` excluded.
 *
 *     Either `agentIds` or a `filter`. With `groupBy` a series stands for all agents of a group; an agent with several
 *     tags counts in each of them.
 */
export interface MetricsQuery {
  /**
   * @minItems 1
   * @maxItems 32
   */
  metrics: string[];
  from: number;
  to: number;
  agentIds?: string[] | null;
  filter?: AgentFilter | null;
  groupBy?: ("all" | "os" | "site" | "tag") | null;
  metricType?: string;
  maxPoints?: number;
}
/**
 * `resolutionSec` 0 means raw samples; otherwise a point is the mean of its bucket (counters: the last value).
 *
 *     `resolution` says what was read: samples, or their rollups of 1 min, 5 min or 1 h.
 */
export interface MetricsQueryReply {
  series: MetricSeries[];
  resolutionSec: number;
  resolution: "1h" | "1m" | "5m" | "raw";
  ok: true;
}
/**
 * `timestamps` in ms, ascending; `values[metric]` runs beside them, null where a bucket holds none.
 *
 *     `minima` and `maxima` run beside them too for all but counters, and are empty where every point is one sample. Of a
 *     group `agentId` is empty, `group` its name (empty too for the agents without one), and `agents` how many it has.
 */
export interface MetricSeries {
  agentId: string;
  timestamps: number[];
  values: {
    [k: string]: (number | null)[];
  };
  minima: {
    [k: string]: (number | null)[];
  };
  maxima: {
    [k: string]: (number | null)[];
  };
  group: string;
  agents: number;
}
export interface MetricsNewest {
  agentId: string;
}
/**
 * The newest sample of each metric type of one agent, sorted by type.
 */
export interface MetricsNewestReply {
  metrics: NewestMetric[];
  ok: true;
}
export interface NewestMetric {
  metricType: string;
  timestamp: number;
  metricData: {
    [k: string]: MetricValue;
  };
}
/**
 * What agents reported of themselves: disconnections, gaps, failing collectors. Newest first.
 */
export interface ReportsList {
  agentId?: string | null;
  /**
   * @maxItems 32
   */
  kinds?: string[];
  limit?: number;
  offset?: number;
}
export interface ReportsListReply {
  reports: ReportView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
export interface ReportView {
  agentId: string;
  at: string;
  kind: string;
  data: {
    [k: string]: unknown;
  };
}
export interface InventoryGet {
  agentId: string;
}
export interface InventoryGetReply {
  sections: InventorySection[];
  ok: true;
}
/**
 * `body` as in protocol/inventory.py; `at` is when the hub stored it.
 */
export interface InventorySection {
  section: string;
  hash: string;
  at: string;
  body: {
    [k: string]: unknown;
  };
}
export interface HubHealth {}
/**
 * The newest of the hub's own figures by name: loop lag, collections, queues, commits, what was dropped.
 */
export interface HubHealthReply {
  hubId: string;
  startedAt: string;
  figures: {
    [k: string]: number;
  };
  ok: true;
}
/**
 * History of the hub's own figures; names as in the newest ones.
 */
export interface HubMetrics {
  /**
   * @minItems 1
   * @maxItems 32
   */
  metrics: string[];
  from: number;
  to: number;
  maxPoints?: number;
}
export interface AlertsList {
  agentId?: string | null;
  state?: AlertState | null;
  limit?: number;
  offset?: number;
}
export interface AlertsListReply {
  alerts: AlertView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
export interface AlertView {
  id: string;
  agentId: string;
  hostname: string;
  type: string;
  severity: AlertSeverity;
  message: string;
  state: AlertState;
  openedAt: string;
  resolvedAt: string | null;
  resolvedBy: string | null;
}
export interface AlertsResolve {
  alertId: string;
}
export interface AlertsResolveReply {
  alert: AlertView;
  ok: true;
}
/**
 * `commandData`: what `protocol.actions.DATA` has for the type. The same idempotency key gives the same command.
 *
 *     `expiresInSec`: how long it waits for a machine that is away, 15 minutes when None. `payload` and `signature`: an
 *     order that a person's key has signed: base64 of the bytes of its JobEnvelope, which must say what the other fields
 *     say. `reason`: why, for the audit and for whoever looks at the command (`purpose`); a policy may require it.
 */
export interface CommandsCreate {
  agentId: string;
  commandData: {
    [k: string]: unknown;
  };
  commandType?: Action;
  timeoutSec?: number | null;
  expiresInSec?: number | null;
  payload?: string | null;
  signature?: Signature | null;
  idempotencyKey?: string | null;
  reason?: string;
}
export interface Signature {
  keyId: string;
  signature: string;
}
export interface CommandReply {
  command: CommandView;
  ok: true;
}
/**
 * `outputBytes`: what the process wrote, as far as it is known; `keptBytes`: what `commands:output` has of it.
 *
 *     `commandData` of a script has `scriptSha256` and `scriptBytes` in place of `script`, but for `commands:get`, which
 *     gives it as it was asked. `shortened`: data or result is cut in this list; `commands:get` has all. `purpose`: the
 *     `reason` that it was asked for with, empty where none was given.
 */
export interface CommandView {
  id: string;
  agentId: string;
  commandType: string;
  commandData: {
    [k: string]: unknown;
  };
  status: CommandStatus;
  reason: CommandReason | null;
  exitCode: number | null;
  result: string;
  createdAt: string;
  createdBy: string;
  sentAt: string | null;
  startedAt: string | null;
  finishedAt: string | null;
  expiresAt: string;
  outputBytes: {
    [k: string]: number;
  };
  truncated: boolean;
  keptBytes: {
    [k: string]: number;
  };
  timeoutSec: number | null;
  cancelRequested: boolean;
  shortened: boolean;
  purpose: string;
}
/**
 * `createdBy`: an actor as `createdBy` names it. `fromMs`: made then or later. `ended`: only those that have, or
 *     only those that have not. `after`: the id of the last command of the page before, in place of `offset`: what is made
 *     meanwhile shifts no page then.
 */
export interface CommandsList {
  agentId?: string | null;
  status?: CommandStatus | null;
  createdBy?: string | null;
  fromMs?: number | null;
  ended?: boolean | null;
  after?: string | null;
  limit?: number;
  offset?: number;
}
export interface CommandsListReply {
  commands: CommandView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
export interface CommandsGet {
  commandId: string;
}
export interface CommandsCancel {
  commandId: string;
}
export interface CommandsOutput {
  commandId: string;
  stream: OutputStream;
  offset?: number;
}
/**
 * Output from `offset` on, at most 64 KiB; ask again from `nextOffset` until `complete`.
 */
export interface CommandsOutputReply {
  commandId: string;
  stream: OutputStream;
  offset: number;
  data: string;
  encoding: TextEncoding;
  nextOffset: number;
  complete: boolean;
  ok: true;
}
export interface PoliciesList {}
/**
 * All of the organisation, by name.
 */
export interface PoliciesListReply {
  policies: PolicyView[];
  ok: true;
}
/**
 * `machines`: how many it is for now.
 */
export interface PolicyView {
  id: string;
  version: number;
  terms: PolicyTerms;
  machines: number;
  createdAt: string;
  createdBy: string;
  changedAt: string;
  changedBy: string;
}
/**
 * `tags`: of machines with any of them; without tags of the whole organisation.
 *
 *     Where several policies apply, every one must allow a job. `turnedOff`: what these machines may not do at all.
 */
export interface PolicyTerms {
  name: string;
  enabled: boolean;
  /**
   * @maxItems 64
   */
  tags: string[];
  commands: CommandRules;
  turnedOff: Capability[];
  /**
   * @maxItems 64
   */
  checks: Check[];
}
/**
 * What jobs may do. None is no list; an empty list allows nothing.
 *
 *     A policy that lists programs or scripts allows nothing else of either, and no environment variable but those of
 *     `allowedEnvironment`: a variable can make a listed program run another one. Listed programs are compared with
 *     argv[0] as it is, denied ones by file name and in any case. `allowedRunAs`: the users as whom programs and
 *     scripts may run; a job has to name one then.
 */
export interface CommandRules {
  allowedActions: Action[] | null;
  deniedActions: Action[];
  allowedPrograms: string[] | null;
  /**
   * @maxItems 256
   */
  deniedPrograms: string[];
  allowedScripts: ListedScript[] | null;
  /**
   * @maxItems 256
   */
  deniedScripts: string[];
  /**
   * @maxItems 64
   */
  allowedEnvironment: string[];
  allowedRunAs: string[] | null;
  reasonRequired: boolean;
  secondSignatureRequired: boolean;
}
/**
 * A script that may run, and with what. `note` tells people which one it is.
 */
export interface ListedScript {
  sha256: string;
  interpreter: string;
  note: string;
}
/**
 * What a machine is expected to be. `name` is unique in its policy; `subject` names the package or service.
 *
 *     `value` is a list for `one_of`, nothing for `present` and `absent`, and of the fact's kind for the others. Where
 *     there are several of one name, as of a package in two versions, each must fit.
 */
export interface Check {
  name: string;
  fact: Fact;
  operator: CheckOperator;
  value: boolean | number | string | string[] | null;
  subject: string;
  severity: AlertSeverity;
}
export interface PoliciesGet {
  policyId: string;
}
export interface PolicyReply {
  policy: PolicyView;
  ok: true;
}
export interface PoliciesCreate {
  terms: PolicyTermsInput;
}
/**
 * `tags`: of machines with any of them; without tags of the whole organisation.
 *
 *     Where several policies apply, every one must allow a job. `turnedOff`: what these machines may not do at all.
 */
export interface PolicyTermsInput {
  name: string;
  enabled?: boolean;
  /**
   * @maxItems 64
   */
  tags?: string[];
  commands?: CommandRulesInput;
  turnedOff?: Capability[];
  /**
   * @maxItems 64
   */
  checks?: CheckInput[];
}
/**
 * What jobs may do. None is no list; an empty list allows nothing.
 *
 *     A policy that lists programs or scripts allows nothing else of either, and no environment variable but those of
 *     `allowedEnvironment`: a variable can make a listed program run another one. Listed programs are compared with
 *     argv[0] as it is, denied ones by file name and in any case. `allowedRunAs`: the users as whom programs and
 *     scripts may run; a job has to name one then.
 */
export interface CommandRulesInput {
  allowedActions?: Action[] | null;
  deniedActions?: Action[];
  allowedPrograms?: string[] | null;
  /**
   * @maxItems 256
   */
  deniedPrograms?: string[];
  allowedScripts?: ListedScriptInput[] | null;
  /**
   * @maxItems 256
   */
  deniedScripts?: string[];
  /**
   * @maxItems 64
   */
  allowedEnvironment?: string[];
  allowedRunAs?: string[] | null;
  reasonRequired?: boolean;
  secondSignatureRequired?: boolean;
}
/**
 * A script that may run, and with what. `note` tells people which one it is.
 */
export interface ListedScriptInput {
  sha256: string;
  interpreter?: string;
  note?: string;
}
/**
 * What a machine is expected to be. `name` is unique in its policy; `subject` names the package or service.
 *
 *     `value` is a list for `one_of`, nothing for `present` and `absent`, and of the fact's kind for the others. Where
 *     there are several of one name, as of a package in two versions, each must fit.
 */
export interface CheckInput {
  name: string;
  fact: Fact;
  operator: CheckOperator;
  value?: boolean | number | string | string[] | null;
  subject?: string;
  severity?: AlertSeverity;
}
/**
 * Replace the whole terms. `version`: the one that was read, so that nobody's change is lost; None for any.
 */
export interface PoliciesUpdate {
  policyId: string;
  terms: PolicyTermsInput;
  version?: number | null;
}
export interface PoliciesDelete {
  policyId: string;
}
/**
 * What was found, what failed first.
 */
export interface ComplianceList {
  policyId?: string | null;
  agentId?: string | null;
  state?: CheckState | null;
  limit?: number;
  offset?: number;
}
/**
 * `totals` count what `policyId` and `agentId` leave, in every state.
 */
export interface ComplianceListReply {
  results: ComplianceResult[];
  totals: ComplianceTotals;
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
/**
 * `found`: the value that decided, as text; null where the fact is not known. `since`: in this state.
 */
export interface ComplianceResult {
  agentId: string;
  hostname: string;
  policyId: string;
  policy: string;
  check: string;
  expected: string;
  severity: AlertSeverity;
  state: CheckState;
  found: string | null;
  since: string;
}
export interface ComplianceTotals {
  passed: number;
  failed: number;
  unknown: number;
}
export interface ComplianceSummary {}
/**
 * `machines`: by their worst result; those without a check are in none.
 */
export interface ComplianceSummaryReply {
  machines: ComplianceTotals;
  policies: PolicyCompliance[];
  ok: true;
}
/**
 * `machines`: by their worst result of this policy.
 */
export interface PolicyCompliance {
  policyId: string;
  policy: string;
  machines: ComplianceTotals;
  results: ComplianceTotals;
}
/**
 * `approval`: who joins with the token waits until a person lets them in.
 */
export interface TokensCreate {
  site?: string;
  /**
   * @maxItems 64
   */
  tags?: string[];
  uses?: number;
  ttlSec?: number;
  approval?: boolean;
}
/**
 * The only time the secret is shown: the hub keeps its hash.
 */
export interface TokensCreateReply {
  token: TokenView;
  tokenText: string;
  joinString: string;
  ok: true;
}
export interface TokenView {
  id: string;
  site: string;
  tags: string[];
  uses: number;
  used: number;
  approval: boolean;
  createdAt: string;
  createdBy: string;
  expiresAt: string;
  revokedAt: string | null;
}
export interface TokensList {
  limit?: number;
  offset?: number;
}
export interface TokensListReply {
  tokens: TokenView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
export interface TokensRevoke {
  tokenId: string;
}
export interface TokensRevokeReply {
  token: TokenView;
  ok: true;
}
/**
 * A key for `POST /api/agents/register` (seed 004). It lets in any number of machines until it ends.
 */
export interface OrganisationKeysCreate {
  name: string;
  site?: string;
  /**
   * @maxItems 64
   */
  tags?: string[];
  ttlSec?: number;
}
/**
 * The only time the secret, `itsk_…`, is shown: the hub keeps its hash.
 */
export interface OrganisationKeysCreateReply {
  key: OrganisationKeyView;
  keyText: string;
  ok: true;
}
export interface OrganisationKeyView {
  id: string;
  name: string;
  site: string;
  tags: string[];
  used: number;
  createdAt: string;
  createdBy: string;
  expiresAt: string;
  lastUsedAt: string | null;
  revokedAt: string | null;
}
export interface OrganisationKeysList {
  limit?: number;
  offset?: number;
}
export interface OrganisationKeysListReply {
  keys: OrganisationKeyView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
export interface OrganisationKeysRevoke {
  keyId: string;
}
export interface OrganisationKeysRevokeReply {
  key: OrganisationKeyView;
  ok: true;
}
export interface ApprovalsList {
  state?: ApprovalState | null;
  limit?: number;
  offset?: number;
}
export interface ApprovalsListReply {
  approvals: ApprovalView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
/**
 * A machine that waits: a new one, or a known one whose certificate ran out and that proved its old key.
 *
 *     `fingerprint`: SHA-256 of the machine's public key in hexadecimal; `jtnt-agent enroll` prints the same.
 */
export interface ApprovalView {
  id: string;
  kind: ApprovalKind;
  state: ApprovalState;
  agentId: string;
  hostname: string;
  os: string;
  address: string;
  fingerprint: string;
  site: string;
  tags: string[];
  requestedAt: string;
  expiresAt: string;
  decidedAt: string | null;
  decidedBy: string | null;
}
export interface ApprovalsDecide {
  approvalId: string;
}
export interface ApprovalReply {
  approval: ApprovalView;
  ok: true;
}
/**
 * Soonest to end first. Without `state`, those that are current.
 */
export interface CertificatesList {
  agentId?: string | null;
  state?: CertificateState | null;
  limit?: number;
  offset?: number;
}
export interface CertificatesListReply {
  certificates: CertificateView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
/**
 * A certificate of an agent. `issuer`: the id of the authority that issued it.
 */
export interface CertificateView {
  serial: string;
  agentId: string;
  hostname: string;
  issuer: string;
  state: CertificateState;
  issuedAt: string;
  expiresAt: string;
  firstUsedAt: string | null;
  revokedAt: string | null;
}
export interface AuthoritiesList {}
/**
 * `rootAtHand`: the hub can rotate by itself. `advice`: what a person should do, empty where nothing.
 */
export interface AuthoritiesListReply {
  authorities: AuthorityView[];
  trustVersion: number;
  rootAtHand: boolean;
  rootFingerprint: string;
  advice: string[];
  ok: true;
}
/**
 * A key of the hub that others trust. `id`: its key id, or the SHA-256 of its certificate in hexadecimal.
 */
export interface AuthorityView {
  id: string;
  use: AuthorityUse;
  state: AuthorityState;
  notBefore: string;
  notAfter: string;
  rotatesAt: string | null;
}
export interface AccountGet {}
/**
 * Who asks. `permissions`: what they may do now; `secondFactorNeeded`: they may do more once they set up TOTP.
 */
export interface AccountGetReply {
  userId: string;
  username: string;
  organisationId: string;
  organisation: string;
  role: Role;
  permissions: string[];
  totp: boolean;
  recoveryCodesLeft: number;
  secondFactorNeeded: boolean;
  passwordChangedAt: string | null;
  memberships: MembershipView[];
  signIns: SignInView[];
  ok: true;
}
export interface MembershipView {
  organisationId: string;
  organisation: string;
  role: Role;
}
/**
 * A sign-in that still stands. `isThis`: the one that asks.
 */
export interface SignInView {
  id: string;
  signedInAt: string;
  lastUsedAt: string;
  expiresAt: string;
  isThis: boolean;
}
/**
 * All other sign-ins of the person end with it.
 */
export interface AccountSetPassword {
  current: string;
  new: string;
}
export interface AccountBeginTotp {
  password: string;
}
/**
 * `secret` in base32, `uri` as authenticator apps read it (otpauth://). Nothing counts before it is confirmed.
 */
export interface AccountBeginTotpReply {
  secret: string;
  uri: string;
  ok: true;
}
export interface AccountConfirmTotp {
  code: string;
}
/**
 * The only time they are shown; each is good once, in place of a code. Earlier ones are void.
 */
export interface RecoveryCodesReply {
  recoveryCodes: string[];
  ok: true;
}
/**
 * `code`: of the authenticator, or a recovery code.
 */
export interface AccountRemoveTotp {
  password: string;
  code: string;
}
export interface AccountNewRecoveryCodes {
  password: string;
  code: string;
}
/**
 * Every sign-in of the person ends, this one too.
 */
export interface AccountSignOutEverywhere {}
export interface UsersList {
  limit?: number;
  offset?: number;
}
/**
 * `grantable`: the roles that whoever asks may give.
 */
export interface UsersListReply {
  users: UserView[];
  grantable: Role[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
/**
 * A person in the organisation of whoever asks. `isElsewhere`: also a member of others, so only they, or an
 *     administrator on the hub's machine, may touch the password, the second factor or the lock.
 */
export interface UserView {
  id: string;
  username: string;
  role: Role;
  totp: boolean;
  isElsewhere: boolean;
  createdAt: string;
  lockedAt: string | null;
  lastSignInAt: string | null;
}
export interface UsersCreate {
  username: string;
  password: string;
  role: Role;
}
export interface UserReply {
  user: UserView;
  ok: true;
}
export interface UsersSetRole {
  userId: string;
  role: Role;
}
export interface UsersSetPassword {
  userId: string;
  password: string;
}
/**
 * `users:lock`, `unlock`, `remove-totp` and `remove`. A removed person leaves the organisation.
 */
export interface UsersName {
  userId: string;
}
export interface RolesList {}
export interface RolesListReply {
  roles: RoleView[];
  ok: true;
}
export interface RoleView {
  role: Role;
  permissions: string[];
  isGrantable: boolean;
}
/**
 * A key with which a script connects, in place of an access token. Its role is at most its maker's.
 */
export interface ApiKeysCreate {
  name: string;
  role: Role;
  ttlSec?: number;
}
/**
 * The only time the secret, `jtntk_…`, is shown: the hub keeps its hash.
 */
export interface ApiKeysCreateReply {
  key: ApiKeyView;
  keyText: string;
  ok: true;
}
export interface ApiKeyView {
  id: string;
  name: string;
  role: Role;
  createdAt: string;
  createdBy: string;
  expiresAt: string;
  lastUsedAt: string | null;
  revokedAt: string | null;
}
export interface ApiKeysList {
  limit?: number;
  offset?: number;
}
export interface ApiKeysListReply {
  keys: ApiKeyView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
export interface ApiKeysRevoke {
  keyId: string;
}
export interface ApiKeyReply {
  key: ApiKeyView;
  ok: true;
}
export interface OrganisationsList {
  limit?: number;
  offset?: number;
}
export interface OrganisationsListReply {
  organisations: OrganisationView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
export interface OrganisationView {
  id: string;
  name: string;
  quotas: Quotas;
  agents: number;
  users: number;
  createdAt: string;
}
/**
 * How much an organisation may have; null means no bound.
 */
export interface Quotas {
  agents: number | null;
  users: number | null;
  openCommands: number | null;
}
export interface OrganisationsCreate {
  name: string;
  quotas?: QuotasInput;
}
/**
 * How much an organisation may have; null means no bound.
 */
export interface QuotasInput {
  agents?: number | null;
  users?: number | null;
  openCommands?: number | null;
}
export interface OrganisationReply {
  organisation: OrganisationView;
  ok: true;
}
export interface OrganisationsUpdate {
  organisationId: string;
  name?: string;
  quotas?: QuotasInput;
}
/**
 * Newest first. Every given condition must hold. `text` is found in actor, action, target or detail, in any case.
 *
 *     `action` may end in `*`. Times in ms since the epoch, `from` included, `to` excluded.
 */
export interface AuditSearch {
  text?: string;
  actor?: string | null;
  action?: string | null;
  target?: string | null;
  fromMs?: number | null;
  toMs?: number | null;
  limit?: number;
  offset?: number;
}
export interface AuditSearchReply {
  entries: AuditEntryView[];
  total: number;
  limit: number;
  offset: number;
  ok: true;
}
/**
 * What was done. `number` counts within `hubId`'s chain; `actor`: `user:…`, `agent:…`, `token:…`, `key:…` or
 *     `hub`; `target`: `<kind>:<id>`.
 */
export interface AuditEntryView {
  hubId: string;
  number: number;
  at: string;
  actor: string;
  action: string;
  target: string;
  detail: {
    [k: string]: unknown;
  };
  hash: string;
}
/**
 * Switch this socket from single `agent:metrics` events to batches for the agents in view.
 *
 *     Without `agentIds` the view follows the fleet: it shows what passes the filter, whatever comes and goes.
 */
export interface FeedSubscribe {
  agentIds?: string[] | null;
  filter?: AgentFilter;
  sort?:
    | "-cpu"
    | "-disk"
    | "-lastSeen"
    | "-memory"
    | "-name"
    | "-status"
    | "cpu"
    | "disk"
    | "lastSeen"
    | "memory"
    | "name"
    | "status";
  offset?: number;
  limit?: number;
  /**
   * @maxItems 64
   */
  metrics?: string[];
  /**
   * @maxItems 64
   */
  metricTypes?: string[];
}
/**
 * What is watched from now on. One `feed:ack` may confirm `confirmEvery` versions; more often does no harm.
 */
export interface FeedSubscribeReply {
  version: number;
  agentIds: string[];
  confirmEvery: number;
  ok: true;
}
export interface FeedAck {
  version: number;
}
export interface AuthRefresh {
  token: string;
}
export interface AuthRefreshReply {
  expiresInSec: number;
  ok: true;
}
export interface AgentAlert {
  agentId: string;
  alertId: string;
  type: string;
  severity: AlertSeverity;
  message: string;
  state: AlertState;
  at: string;
}
export interface AgentCommandOutput {
  agentId: string;
  commandId: string;
  stream: OutputStream;
  offset: number;
  data: string;
  encoding: TextEncoding;
}
export interface AgentCommandResult {
  agentId: string;
  commandId: string;
  status: CommandStatus;
  exitCode: number | null;
  reason: CommandReason | null;
  result: string;
  finishedAt: string | null;
}
/**
 * Also sent when somebody asks for the end of a command that goes on until its agent has ended it.
 */
export interface AgentCommandStatus {
  agentId: string;
  commandId: string;
  status: CommandStatus;
  cancelRequested: boolean;
}
export interface AgentConnected {
  agentId: string;
  hostname: string;
  at: string;
  reason: string;
}
export interface AgentDisconnected {
  agentId: string;
  hostname: string;
  at: string;
  reason: string;
}
export interface AgentMetrics {
  agentId: string;
  metricType: string;
  metricData: {
    [k: string]: MetricValue;
  };
  timestamp: number;
}
/**
 * What the organisation lets this agent do. The agent's own policy file may only narrow it.
 */
export interface AgentPolicy {
  version: number;
  allowedActions: string[];
}
/**
 * One tick of a feed. The client confirms several with one `feed:ack`; who lags gets a snapshot when it is back.
 *
 *     `agentIds`: the machines in view, in its order; given in a snapshot, and when they have changed.
 */
export interface AgentsMetrics {
  version: number;
  samples: FeedSample[];
  snapshot: boolean;
  agentIds: string[] | null;
}
export interface FeedSample {
  agentId: string;
  metricType: string;
  metricData: {
    [k: string]: MetricValue;
  };
  timestamp: number;
}
/**
 * At connect the first 100 agents by name; afterwards deltas, whose `agents` are only those that changed.
 */
export interface AgentsStatus {
  agents: AgentSummary[];
  total: number;
  counts: FleetCounts;
  version: number;
  delta: boolean;
  removed: string[];
}
/**
 * `GET /api/v1/agent/ca`: what an agent checks against its token's pin before it says anything.
 */
export interface CaReply {
  ca_bundle_pem: string;
  trust: SignedTrust;
}
/**
 * `document`: base64 of the bytes of a TrustDocument. Signatures: by the root, ECDSA P-256 SHA-256, DER, base64.
 */
export interface SignedTrust {
  document: string;
  signatures: Signature[];
}
export interface EnrollPending {
  agent_id: string;
  poll_after_sec: number;
  status: "pending";
}
/**
 * `client_cert_pem`: leaf, then its issuing CA. `ca_bundle_pem`: root, then the issuing CAs.
 */
export interface EnrollReply {
  agent_id: string;
  client_cert_pem: string;
  ca_bundle_pem: string;
  trust: SignedTrust;
  policy: AgentPolicy;
  websocket_url: string;
  next_heartbeat_sec: number;
}
/**
 * `POST /api/v1/agent/enroll`. The CSR gives a public key and proof of its possession, and nothing else.
 */
export interface EnrollRequest {
  token: string;
  csr_pem: string;
  agent_version: string;
  boot_id: string;
  sysinfo: EnrollmentSystemInformation;
}
export interface EnrollmentSystemInformation {
  hostname: string;
  os: string;
  os_version?: string;
  arch?: string;
  cpu_count?: number;
  memory_total_bytes?: number;
  /**
   * @maxItems 64
   */
  ip_addresses?: string[];
}
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  path?: string | null;
  retryAfterSec?: number | null;
}
export interface ErrorReply {
  error: ErrorBody;
}
/**
 * `POST /api/v1/agent/recover`: an agent whose certificate ran out asks for a new one.
 *
 *     `certificate_pem`: its last leaf. `signature`: base64, by that certificate's key over `recovery_statement(…)`.
 */
export interface RecoverRequest {
  certificate_pem: string;
  csr_pem: string;
  signed_at_ms: number;
  signature: string;
  agent_version: string;
  boot_id: string;
}
export interface Refusal {
  error: ErrorBody;
  ok: false;
}
export interface RegisterReply {
  id: string;
  websocketUrl: string;
  certificatePem: string;
  caBundlePem: string;
  trust: SignedTrust;
  policy: AgentPolicy;
  status: "created";
}
/**
 * `POST /api/agents/register` with `X-API-Key: itsk_…`.
 */
export interface RegisterRequest {
  hostname: string;
  osType: string;
  agentVersion: string;
  csrPem: string;
  ipAddress?: string;
  osVersion?: string;
  config?: {
    [k: string]: unknown;
  };
}
/**
 * `secondFactorNeeded`: until the person sets up TOTP they may do nothing else.
 */
export interface SignInReply {
  accessToken: string;
  expiresInSec: number;
  secondFactorNeeded: boolean;
}
/**
 * `otp`: an authenticator's code, or a recovery code. `organisation`: the name of one, for who is in several.
 */
export interface SignInRequest {
  username: string;
  password: string;
  otp?: string | null;
  organisation?: string | null;
}

/** What the hub sends; the first type argument of a socket.io client. */
export interface ServerToClientEvents {
  "agents:status": (event: AgentsStatus) => void;
  "agent:connected": (event: AgentConnected) => void;
  "agent:disconnected": (event: AgentDisconnected) => void;
  "agent:metrics": (event: AgentMetrics) => void;
  "agents:metrics": (event: AgentsMetrics) => void;
  "agent:alert": (event: AgentAlert) => void;
  "agent:command:status": (event: AgentCommandStatus) => void;
  "agent:command:output": (event: AgentCommandOutput) => void;
  "agent:command:result": (event: AgentCommandResult) => void;
}

/** What a client may ask; the second type argument of a socket.io client. */
export type ClientToServerEvents = {
  [Name in keyof Operations]: (
    request: Operations[Name]["request"],
    acknowledge: (answer: Operations[Name]["reply"] | Refusal) => void,
  ) => void;
};
