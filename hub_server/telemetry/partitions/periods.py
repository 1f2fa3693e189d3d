"""Which table of a day or month a moment belongs to. Pure.

Names sort by time: `metric_samples_20261122` is a day of UTC, `metric_rollups_5m_202611` a month.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from hub_server.telemetry.model import Resolution

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
MOMENT_MAX_MS: Final = 253_402_300_800_000 - 32 * DAY_MS
"""No sample is of the year 10000."""

Width = Literal["day", "month"]
PARENTS: Final[dict[str, Width]] = {
    "metric_samples": "day",
    "metric_chunks": "day",
    "metric_rollups_1m": "day",
    "metric_rollups_5m": "month",
    "metric_rollups_1h": "month",
}
PARENTS_OF: Final = {
    Resolution.RAW: ("metric_samples", "metric_chunks"),
    Resolution.MINUTE: ("metric_rollups_1m",),
    Resolution.FIVE_MINUTES: ("metric_rollups_5m",),
    Resolution.HOUR: ("metric_rollups_1h",),
}
ROW_MS: Final = {Resolution.MINUTE: HOUR_MS, Resolution.FIVE_MINUTES: HOUR_MS, Resolution.HOUR: DAY_MS}
"""How long a row of rollups is."""

_NAME: Final = re.compile(r"(metric_[a-z0-9_]+?)_(\d{4})(\d\d)(\d\d)?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Partition(NamedTuple):
    """A table that holds what begins in [from_ms, to_ms)."""

    parent: str
    name: str
    from_ms: int
    to_ms: int


def partition_of(parent: str, moment_ms: int) -> Partition:
    """Raises ValueError for a moment that no calendar has."""
    if not 0 <= moment_ms < MOMENT_MAX_MS:
        raise ValueError(f"no day holds the time {moment_ms} ms")
    day_ms = moment_ms - moment_ms % DAY_MS
    moment = datetime.fromtimestamp(day_ms / 1000, UTC)
    if PARENTS[parent] == "day":
        return Partition(parent, f"{parent}_{moment:%Y%m%d}", day_ms, day_ms + DAY_MS)
    first = moment.replace(day=1)
    return Partition(parent, f"{parent}_{moment:%Y%m}", _milliseconds(first), _milliseconds(_next_month(first)))


def partition_named(name: str) -> Partition | None:
    """Return the partition of this name; None when it is no name of one."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in PARENTS or (match[4] is None) != (PARENTS[match[1]] == "month"):
        return None
    first = datetime(int(match[2]), int(match[3]), int(match[4] or 1), tzinfo=UTC)
    return partition_of(match[1], _milliseconds(first))


def _next_month(first: datetime) -> datetime:
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def _milliseconds(moment: datetime) -> int:
    return int((moment - _EPOCH).total_seconds()) * 1000
