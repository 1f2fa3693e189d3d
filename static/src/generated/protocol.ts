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
export type AlertState = "OPEN" | "RESOLVED";
export type AlertSeverity = "CRITICAL" | "ERROR" | "INFO" | "WARNING";
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
   * Values of some metrics of some machines over a span of time, in buckets.
   */
  "metrics:query": {
    request: MetricsQuery;
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
 * Every given condition must hold. `text` is found in name, host name, site, tags or address, in any case.
 */
export interface AgentFilter {
  text?: string;
  status?: AgentStatus[];
  tags?: string[];
  site?: string | null;
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
 * Times in ms since the epoch, `from` included, `to` excluded.
 */
export interface MetricsQuery {
  /**
   * @minItems 1
   * @maxItems 100
   */
  agentIds: string[];
  /**
   * @minItems 1
   * @maxItems 32
   */
  metrics: string[];
  from: number;
  to: number;
  metricType?: string;
  maxPoints?: number;
}
/**
 * `resolutionSec` 0 means raw samples; otherwise a point is the mean of its bucket (counters: the last value).
 */
export interface MetricsQueryReply {
  series: MetricSeries[];
  resolutionSec: number;
  ok: true;
}
/**
 * `timestamps` in ms, ascending; `values[metric]` runs beside them, null where a bucket holds none.
 */
export interface MetricSeries {
  agentId: string;
  timestamps: number[];
  values: {
    [k: string]: (number | null)[];
  };
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
 * `commandData` of `exec` is a `protocol.envelope.ExecData`. The same idempotency key gives the same command.
 */
export interface CommandsCreate {
  agentId: string;
  commandData: {
    [k: string]: unknown;
  };
  commandType?: "exec";
  timeoutSec?: number | null;
  idempotencyKey?: string | null;
}
export interface CommandReply {
  command: CommandView;
  ok: true;
}
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
  startedAt: string | null;
  finishedAt: string | null;
  expiresAt: string;
  outputBytes: {
    [k: string]: number;
  };
  truncated: boolean;
}
export interface CommandsList {
  agentId?: string | null;
  status?: CommandStatus | null;
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
export interface TokensCreate {
  site?: string;
  /**
   * @maxItems 64
   */
  tags?: string[];
  uses?: number;
  ttlSec?: number;
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
 * Switch this socket from single `agent:metrics` events to batches for the agents in view.
 */
export interface FeedSubscribe {
  agentIds?: string[] | null;
  filter?: AgentFilter;
  sort?: string;
  offset?: number;
  limit?: number;
  /**
   * @maxItems 64
   */
  metrics?: string[];
}
export interface FeedSubscribeReply {
  version: number;
  agentIds: string[];
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
export interface AgentCommandStatus {
  agentId: string;
  commandId: string;
  status: CommandStatus;
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
 * One tick of a feed. The client confirms it with `feed:ack`; who lags gets a snapshot when it is back.
 */
export interface AgentsMetrics {
  version: number;
  samples: FeedSample[];
  snapshot: boolean;
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
 * `document`: base64 of the bytes of a TrustDocument. Signatures: by the root, ECDSA P-256 SHA-256, DER, base64.
 */
export interface SignedTrust {
  document: string;
  signatures: Signature[];
}
export interface Signature {
  keyId: string;
  signature: string;
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
export interface SignInReply {
  accessToken: string;
  expiresInSec: number;
}
export interface SignInRequest {
  username: string;
  password: string;
  otp?: string | null;
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
