"""The closed sets of words of the product, as stored and as sent. Source: seed 004, "Enums Added"."""

from enum import StrEnum


class AgentStatus(StrEnum):
    """The status people see. Derived from connection, maintenance and health; never stored."""

    ACTIVE = "ACTIVE"
    OFFLINE = "OFFLINE"
    ERROR = "ERROR"
    MAINTENANCE = "MAINTENANCE"


class AlertSeverity(StrEnum):
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class AlertState(StrEnum):
    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class CommandStatus(StrEnum):
    PENDING = "PENDING"
    SENT = "SENT"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class CommandOutcome(StrEnum):
    """The terminal ones of CommandStatus: what an agent may report as a result."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Action(StrEnum):
    """What a job does: the `commandType` of a command and the `action` of its signed order."""

    EXEC = "exec"
    SCRIPT = "script"
    SERVICE = "service"
    KILL = "kill"
    PACKAGES = "packages"
    REBOOT = "reboot"
    AGENT_RESTART = "agent:restart"


class CommandReason(StrEnum):
    """Why a command ended as it did, where the status alone does not say."""

    EXIT_CODE = "exit_code"
    TIMEOUT = "timeout"
    EXPIRED = "expired"
    DENIED_BY_AGENT = "denied_by_agent"
    START_FAILED = "start_failed"
    INTERRUPTED = "interrupted"
    CANCELLED_BY_PERSON = "cancelled_by_person"
    UNKNOWN = "unknown"


class ConnectionReason(StrEnum):
    """Why an agent is not connected, as far as the hub knows."""

    NEVER_CONNECTED = "never_connected"
    SHUTDOWN = "shutdown"
    RESTART = "restart"
    UPDATE = "update"
    OPERATOR = "operator"
    SLEEP = "sleep"
    CONNECTION_LOST = "connection_lost"
    SILENT = "silent"
    SUPERSEDED = "superseded"
    SLOW_CONSUMER = "slow_consumer"
    PROTOCOL_ERROR = "protocol_error"
    REVOKED = "revoked"
    QUARANTINED = "quarantined"
    HUB_STOPPED = "hub_stopped"
    HUB_AWAY = "hub_away"
    REFUSED = "refused"
    SITE_SILENT = "site_silent"


class GoodbyeReason(StrEnum):
    SHUTDOWN = "shutdown"
    RESTART = "restart"
    UPDATE = "update"
    OPERATOR = "operator"
    SLEEP = "sleep"


class Lane(StrEnum):
    """A sample belongs to one lane for life: `live` if a session was up when it was taken, else `backfill`."""

    LIVE = "live"
    BACKFILL = "backfill"


class OutputStream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


class TextEncoding(StrEnum):
    UTF8 = "utf8"
    BASE64 = "base64"


class DesiredName(StrEnum):
    CONFIG = "config"
    POLICY = "policy"
    TRUST = "trust"
    CERTIFICATE = "certificate"
    SCHEDULE = "schedule"


class JobState(StrEnum):
    """Where an agent's journal stands with a job."""

    ACCEPTED = "accepted"
    STARTED = "started"
    FINISHED = "finished"
    UNKNOWN = "unknown"


class RefusalAction(StrEnum):
    """What a refused agent does next."""

    RETRY = "retry"
    RETRY_AFTER = "retry_after"
    FIX_CONFIG = "fix_config"
    RE_ENROLL = "re_enroll"
    NEVER = "never"


class AgentTrust(StrEnum):
    """Whether the hub lets an agent in."""

    TRUSTED = "trusted"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"


class CertificateState(StrEnum):
    """`superseded`: the agent was seen with a newer one."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"
    EXPIRED = "expired"


class AuthorityUse(StrEnum):
    """What a key of the hub is for."""

    ROOT = "root"
    AGENTS = "agents"
    SERVERS = "servers"
    JOBS = "jobs"
    AUDIT = "audit"
    ACCESS = "access"


class AuthorityState(StrEnum):
    """`next`: trusted by agents already, not used yet. `retiring`: no longer used, what it made still counts."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"


class ApprovalKind(StrEnum):
    ENROLL = "enroll"
    RECOVER = "recover"


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Role(StrEnum):
    """What a person is in an organisation."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    TECHNICIAN = "technician"
    APPROVER = "approver"
    ORG_ADMIN = "org-admin"
    HUB_ADMIN = "hub-admin"
    AUDITOR = "auditor"
