"""An alert as it is stored, and as the rules see it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import Struct

from protocol.enumerations import AlertSeverity, AlertState
from protocol.frames import Sample

RESOLVED_BY_HUB: Final = "hub"


class Alert(Struct, frozen=True, kw_only=True):
    """`holding`: its condition is still true, also when a person has resolved it."""

    id: str
    organisation_id: str
    agent_id: str
    key: str
    type: str
    severity: AlertSeverity
    message: str
    state: AlertState
    holding: bool
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None = None
    resolved_by: str | None = None


class Standing(Struct, frozen=True):
    """An alert whose condition holds. It is not open any more when a person resolved it meanwhile."""

    alert_id: str
    type: str
    severity: AlertSeverity
    message: str
    is_open: bool


class Subject(Struct, frozen=True, kw_only=True):
    """Whom an alert is about, and the monotonic time at which the hub learnt of its cause."""

    organisation_id: str
    agent_id: str
    received_monotonic: float


class Observation(Subject, frozen=True, kw_only=True):
    """A fresh sample of an agent; `received_monotonic` is that of its frame."""

    sample: Sample


def standing_of(alert: Alert) -> Standing:
    return Standing(alert.id, alert.type, alert.severity, alert.message, alert.state is AlertState.OPEN)
