"""Whether an agent is there, and the status that people see."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from protocol.enumerations import AgentStatus, ConnectionReason


class Presence(Struct, frozen=True, kw_only=True):
    """`awaited_until` (seconds of hub activity): the agent was there when the hub stopped and may still come back."""

    connected: bool
    changed_at: datetime | None = None
    last_seen_at: datetime | None = None
    reason: ConnectionReason = ConnectionReason.NEVER_CONNECTED
    awaited_until: float | None = None
    problems: frozenset[str] = frozenset()


def status_of(presence: Presence) -> AgentStatus:
    """Return the status shown. An agent that the hub still awaits after its own restart is not called offline."""
    if not presence.connected and presence.awaited_until is None:
        return AgentStatus.OFFLINE
    if presence.problems:
        return AgentStatus.ERROR
    return AgentStatus.ACTIVE


def reason_of(presence: Presence) -> str:
    """Return why the status is not ACTIVE, empty when it is."""
    if presence.awaited_until is not None:
        return ConnectionReason.HUB_AWAY
    if not presence.connected:
        return presence.reason
    return ", ".join(sorted(presence.problems))


class PresenceRecord(Struct, frozen=True, kw_only=True):
    """An agent's presence as it outlives the hub's process."""

    organisation_id: str
    agent_id: str
    hostname: str
    connected: bool
    last_seen_at: datetime | None
    reason: ConnectionReason
