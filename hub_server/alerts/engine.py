"""The first alert rules (seed 004, "Automatic Alert Generation") as one pure function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from hub_server.alerts.model import Standing
from protocol.enumerations import AgentTrust, AlertSeverity
from protocol.frames import MetricValue
from protocol.operations import Thresholds

MARGIN_PERCENT: Final = 5.0
"""How far a value must fall below a threshold before its alert steps down: it does not flap around the threshold."""
MOUNT_MAX_CHARS: Final = 256
QUARANTINE: Final = "quarantined"
CLONE_SUSPECTED: Final = "clone_suspected"
CLOCK: Final = "clock"
COMPLIANCE: Final = "compliance"
DURATIONS: Final = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
"""Seconds and name of a unit, and of the one below it."""
RANK: Final[Mapping[AlertSeverity, int]] = {severity: rank for rank, severity in enumerate(AlertSeverity)}


class Raise(Struct, frozen=True):
    """Open an alert. One of the same key that a person resolved while it held is over with this."""

    key: str
    type: str
    severity: AlertSeverity
    message: str


class ChangeSeverity(Struct, frozen=True):
    """The open alert of this key became more or less severe."""

    key: str
    severity: AlertSeverity
    message: str


class Cease(Struct, frozen=True):
    """The condition of this key is over."""

    key: str


Effect = Raise | ChangeSeverity | Cease


class Usage(NamedTuple):
    """A percentage with two thresholds. `where` names the value that says which part of the machine is meant."""

    key: str
    metric: str
    label: str
    warning: str
    critical: str
    where: str | None = None


class Protection(NamedTuple):
    """Something that should be on."""

    key: str
    metric: str
    message: str


USAGES: Final = (
    Usage("cpu", "cpu_percent", "CPU usage", "cpu_warning", "cpu_critical"),
    Usage("memory", "memory_percent", "Memory usage", "memory_warning", "memory_critical"),
    Usage("disk", "disk_percent", "Disk usage", "disk_warning", "disk_critical", "disk_mount"),
)
PROTECTIONS: Final = (
    Protection("firewall", "firewall_enabled", "Firewall is disabled"),
    Protection("antivirus", "antivirus_enabled", "Antivirus is disabled"),
)
UPDATES: Final = "updates"


def evaluate(
    thresholds: Thresholds, metric_type: str, data: Mapping[str, MetricValue], standing: Mapping[str, Standing]
) -> list[Effect]:
    """Return what a sample changes in the standing alerts of its agent; at most one effect a key.

    A value that is missing, or of the wrong type, changes nothing.
    """
    if metric_type == "system":
        return _usages(thresholds, data, standing)
    if metric_type == "security":
        return _security(thresholds, data, standing)
    return []


def of_trust(trust: AgentTrust, reason: str, *, by_hub: bool) -> Raise | Cease:
    """Return what an agent's new standing does to its alert. About a revoked one everything is decided."""
    if trust is not AgentTrust.QUARANTINED:
        return Cease(QUARANTINE)
    message = f"In quarantine: {reason}" if reason else "In quarantine until somebody releases it"
    if by_hub:
        return Raise(QUARANTINE, CLONE_SUSPECTED, AlertSeverity.CRITICAL, message)
    return Raise(QUARANTINE, QUARANTINE, AlertSeverity.WARNING, message)


def of_clock(offset_ms: int, *, skewed: bool) -> Raise | Cease:
    """Return what the clock of an agent does to its alert; `offset_ms` is how far it is ahead of the hub's."""
    if not skewed:
        return Cease(CLOCK)
    way = "ahead of" if offset_ms > 0 else "behind"
    return Raise(
        CLOCK, CLOCK, AlertSeverity.WARNING, f"The clock is {_duration(abs(offset_ms) // 1000)} {way} the hub's"
    )


def of_compliance(worst: AlertSeverity | None) -> Raise | Cease:
    """Return what the checks that fail on a machine do to its alert: those below ERROR are no reason for one."""
    if worst is None or RANK[worst] < RANK[AlertSeverity.ERROR]:
        return Cease(COMPLIANCE)
    return Raise(COMPLIANCE, COMPLIANCE, worst, "Not as its policies expect: see their compliance")


def _duration(seconds: int) -> str:
    """Return `seconds` in its two largest units: `2 d 3 h`, `75 min 12 s`."""
    for unit_seconds, unit, rest_seconds, rest in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= 2 * unit_seconds:
            left = seconds % unit_seconds // rest_seconds
            return f"{seconds // unit_seconds} {unit}" + (f" {left} {rest}" if left else "")
    return f"{seconds} s"


def _usages(thresholds: Thresholds, data: Mapping[str, MetricValue], standing: Mapping[str, Standing]) -> list[Effect]:
    effects: list[Effect] = []
    for usage in USAGES:
        percent = data.get(usage.metric)
        if not isinstance(percent, int | float):
            continue
        held = standing.get(usage.key)
        warning: float = getattr(thresholds, usage.warning)
        critical: float = getattr(thresholds, usage.critical)
        if held is None and percent <= warning and percent <= critical:
            continue
        wanted = _severity(percent, warning, critical, held)
        if _unchanged(wanted, held):
            continue
        effects += _step(usage.key, wanted, _usage_message(usage, wanted, percent, data), held)
    return effects


def _security(
    thresholds: Thresholds, data: Mapping[str, MetricValue], standing: Mapping[str, Standing]
) -> list[Effect]:
    effects: list[Effect] = []
    for protection in PROTECTIONS:
        enabled = data.get(protection.metric)
        if isinstance(enabled, bool):
            wanted = None if enabled else AlertSeverity.ERROR
            effects += _step(protection.key, wanted, protection.message, standing.get(protection.key))
    available = data.get("updates_available")
    if isinstance(available, int) and not isinstance(available, bool):
        wanted = AlertSeverity.WARNING if available > thresholds.updates_warning else None
        effects += _step(UPDATES, wanted, f"Updates available: {available}", standing.get(UPDATES))
    return effects


def _severity(percent: float, warning: float, critical: float, held: Standing | None) -> AlertSeverity | None:
    if held is not None:
        warning -= min(MARGIN_PERCENT, warning / 2)
        if held.severity is AlertSeverity.CRITICAL:
            critical -= min(MARGIN_PERCENT, critical / 2)
    if percent > critical:
        return AlertSeverity.CRITICAL
    return AlertSeverity.WARNING if percent > warning else None


def _unchanged(wanted: AlertSeverity | None, held: Standing | None) -> bool:
    return wanted is (None if held is None else held.severity)


def _step(key: str, wanted: AlertSeverity | None, message: str, held: Standing | None) -> list[Effect]:
    """Return the effect that leads from `held` to `wanted`, None being calm."""
    if _unchanged(wanted, held):
        return []
    if wanted is None:
        return [Cease(key)]
    if held is None:
        return [Raise(key, key, wanted, message)]
    if held.is_open:
        return [ChangeSeverity(key, wanted, message)]
    return [Raise(key, key, wanted, message)] if RANK[wanted] > RANK[held.severity] else []


def _usage_message(
    usage: Usage, severity: AlertSeverity | None, percent: float, data: Mapping[str, MetricValue]
) -> str:
    degree = "critical" if severity is AlertSeverity.CRITICAL else "high"
    where = data.get(usage.where) if usage.where else None
    place = f" on {where[:MOUNT_MAX_CHARS]}" if isinstance(where, str) and where else ""
    return f"{usage.label} {degree}: {percent:.1f}%{place}"
