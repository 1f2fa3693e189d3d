"""Whether an agent is there, and the status that people see."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from msgspec import Struct

from protocol.enumerations import AgentStatus, ConnectionReason

REASON_MAX_CHARS: Final = 64


class Presence(Struct, frozen=True, kw_only=True, gc=False):
    """`since` is when its status became what it is; `detail` says more than `reason` can.

    `awaited_until` in seconds of hub activity: its connection ended with the hub's own absence, and it may still come
    back.
    """

    organisation_id: str = ""
    hostname: str = ""
    connected: bool = False
    since: datetime | None = None
    reason: ConnectionReason = ConnectionReason.NEVER_CONNECTED
    detail: str = ""
    awaited_until: float | None = None
    problems: frozenset[str] = frozenset()


ABSENT: Final = Presence()


class Site(NamedTuple):
    organisation_id: str
    name: str


class PresenceRecord(Struct, frozen=True, kw_only=True):
    """An agent's presence as it outlives the hub's process. `reason` as `said` has it."""

    organisation_id: str
    agent_id: str
    hostname: str
    connected: bool
    last_seen_at: datetime | None
    reason: str


def status_of(presence: Presence) -> AgentStatus:
    """Return the status shown. An agent that the hub still awaits is not called offline."""
    if not presence.connected and presence.awaited_until is None:
        return AgentStatus.OFFLINE
    return AgentStatus.ERROR if presence.problems else AgentStatus.ACTIVE


def reason_of(presence: Presence) -> str:
    """Return why the status is not ACTIVE, empty when it is; of an awaited agent that the hub was away."""
    if presence.awaited_until is not None:
        return ConnectionReason.HUB_AWAY
    if not presence.connected:
        return said(presence.reason, presence.detail)
    return ", ".join(sorted(presence.problems))


def said(reason: ConnectionReason, detail: str) -> str:
    """Return both in one text, as people see it and as it is stored: `refused: in quarantine`."""
    return f"{reason.value}: {detail}"[:REASON_MAX_CHARS] if detail else reason.value


def meant(text: str) -> tuple[ConnectionReason, str]:
    """Return what `said` put together. A reason that this version does not know counts as a lost connection."""
    reason, _, detail = text.partition(": ")
    try:
        return ConnectionReason(reason), detail
    except ValueError:
        return ConnectionReason.CONNECTION_LOST, ""
