"""The domain events: what has happened, said once, to whoever listens. Each names its topic (a NATS subject)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from protocol.enumerations import (
    AgentTrust,
    AlertSeverity,
    AlertState,
    CommandReason,
    CommandStatus,
    ConnectionReason,
    Lane,
    OutputStream,
)
from protocol.frames import HubFrame, Sample


class OrganisationEvent(Struct, frozen=True, kw_only=True):
    """Base: everything belongs to an organisation and concerns one agent."""

    organisation_id: str
    agent_id: str


class AgentEnrolled(OrganisationEvent, frozen=True):
    hostname: str


class AgentChanged(OrganisationEvent, frozen=True):
    """Name, tags, site, configuration or system information changed."""


class AgentDeleted(OrganisationEvent, frozen=True):
    hostname: str


class AgentTrustChanged(OrganisationEvent, frozen=True):
    """The agent was put in quarantine, released or revoked. `by_hub`: nobody asked for it."""

    trust: AgentTrust
    reason: str
    by_hub: bool


class AgentConnected(OrganisationEvent, frozen=True):
    hostname: str
    at: datetime


class AgentDisconnected(OrganisationEvent, frozen=True):
    hostname: str
    at: datetime
    reason: ConnectionReason


class MetricsReceived(OrganisationEvent, frozen=True, gc=False):
    """Samples of one frame, decoded and checked, not yet stored."""

    lane: Lane
    epoch: int
    samples: list[Sample]
    received_monotonic: float
    is_repeated: bool = False
    """Every sample is stored already: the frame came again because its acknowledgement was lost."""
    size_chars: int = 0
    """How long its frame was."""


class AgentReported(OrganisationEvent, frozen=True):
    """An `event` frame of an agent: a collector failing, a gap in its spool, a firewall turned off."""

    epoch: int
    seq: int
    ts_ms: int
    kind: str
    data: dict[str, Any]


class ClockOffsetMeasured(OrganisationEvent, frozen=True):
    """An agent's clock was found wrong (`skewed`) or right; said when that changes, and once after the hub's start."""

    offset_ms: int
    skewed: bool


class ComplianceChanged(OrganisationEvent, frozen=True):
    """The worst of the checks of policies that fail on a machine is of another severity; None: none fails.

    Also said once after the hub's start.
    """

    severity: AlertSeverity | None


class AlertChanged(OrganisationEvent, frozen=True):
    alert_id: str
    type: str
    severity: AlertSeverity
    message: str
    state: AlertState
    at: datetime


class CommandCreated(OrganisationEvent, frozen=True):
    command_id: str


class CommandStatusChanged(OrganisationEvent, frozen=True):
    """Its status is another one, or somebody has asked for its end."""

    command_id: str
    status: CommandStatus
    cancel_requested: bool = False


class CommandOutputStored(OrganisationEvent, frozen=True):
    """Bytes of output that are now known, and stored in a moment; `offset` is where they start in their stream."""

    command_id: str
    stream: OutputStream
    offset: int
    data: bytes


class CommandFinished(OrganisationEvent, frozen=True):
    command_id: str
    status: CommandStatus
    exit_code: int | None
    reason: CommandReason | None
    result: str
    finished_at: datetime | None


class Deliver(OrganisationEvent, frozen=True, gc=False):
    """A frame for an agent; lost when no hub holds its session. The database is the record; the sweep repeats it."""

    frame: HubFrame


class SessionEndRequested(OrganisationEvent, frozen=True):
    """The session of this agent must end at once, on whichever hub holds it."""

    reason: ConnectionReason


DomainEvent = (
    AgentEnrolled
    | AgentChanged
    | AgentDeleted
    | AgentTrustChanged
    | AgentConnected
    | AgentDisconnected
    | MetricsReceived
    | AgentReported
    | ClockOffsetMeasured
    | ComplianceChanged
    | AlertChanged
    | CommandCreated
    | CommandStatusChanged
    | CommandOutputStored
    | CommandFinished
    | Deliver
    | SessionEndRequested
)

_FAMILY = {
    AgentEnrolled: "fleet",
    AgentChanged: "fleet",
    AgentDeleted: "fleet",
    AgentTrustChanged: "fleet",
    AgentConnected: "presence",
    AgentDisconnected: "presence",
    MetricsReceived: "telemetry",
    AgentReported: "reports",
    ClockOffsetMeasured: "clocks",
    ComplianceChanged: "compliance",
    AlertChanged: "alerts",
    CommandCreated: "commands",
    CommandStatusChanged: "commands",
    CommandOutputStored: "commands",
    CommandFinished: "commands",
    Deliver: "deliver",
    SessionEndRequested: "deliver",
}


def family_of(event: DomainEvent) -> str:
    """Return the first word of the event's topic: what a listener in one process subscribes to."""
    return _FAMILY[type(event)]


def topic_of(event: DomainEvent) -> str:
    """Return the NATS subject: `deliver.<agent>`, else `<family>.<organisation>.<agent>`."""
    family = family_of(event)
    if family == "deliver":
        return f"deliver.{event.agent_id}"
    return f"{family}.{event.organisation_id}.{event.agent_id}"
