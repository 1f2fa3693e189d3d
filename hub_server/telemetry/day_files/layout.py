"""Where the files are, what is in them, and how keys are made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from hub_server.telemetry.model import Resolution

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
HOURS: Final = 24
SLOT_BITS: Final = 16
PART_BITS: Final = 8
PARTS_MAX: Final = (1 << PART_BITS) - 1

VERSION: Final = 1
RAW_SCHEMA: Final = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY, organisation_id TEXT NOT NULL, agent_id TEXT NOT NULL, metric_type TEXT NOT NULL,
    packed INTEGER NOT NULL DEFAULT 0, open_hours INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX series_of ON series (agent_id, metric_type, organisation_id);
CREATE INDEX series_open ON series (id) WHERE open_hours <> 0;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, organisation_id TEXT NOT NULL, agent_id TEXT NOT NULL, stream TEXT NOT NULL,
    epoch INTEGER NOT NULL);
CREATE TABLE shapes (id INTEGER PRIMARY KEY, names TEXT NOT NULL);
CREATE TABLE hot (
    id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL, series INTEGER NOT NULL,
    ts INTEGER NOT NULL, shape INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE chunk (key INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE facts (chunk_bytes INTEGER NOT NULL);
INSERT INTO facts VALUES (0)
"""
"""`hot.data` is the JSON list of a sample's values, `shapes.names` that of their names; shape 0 is an object with both.

`chunk`: part 0 of a series and hour is the packed chunk of the closed hour, the others are text, `[ts, shape, data]`
one after the other with commas between. `open_hours` has a bit for each hour with such parts. `packed`: rows of the
series up to this id are in `chunk`.
"""

ROLLUP_SCHEMA: Final = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY, organisation_id TEXT NOT NULL, agent_id TEXT NOT NULL, metric_type TEXT NOT NULL,
    UNIQUE (agent_id, metric_type, organisation_id));
CREATE TABLE rollup (key INTEGER PRIMARY KEY, body BLOB NOT NULL)
"""
"""A row a series and slot: an hour of the day (1m), an hour of the month (5m), a day of the month (1h)."""

INDEX_SCHEMA: Final = """
CREATE TABLE streams (
    agent_id TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, organisation_id TEXT NOT NULL,
    ranges TEXT NOT NULL, written INTEGER NOT NULL, PRIMARY KEY (agent_id, stream, epoch)) WITHOUT ROWID;
CREATE TABLE newest (
    agent_id TEXT NOT NULL, metric_type TEXT NOT NULL, organisation_id TEXT NOT NULL, ts_ms INTEGER NOT NULL,
    data TEXT NOT NULL, PRIMARY KEY (agent_id, metric_type, organisation_id)) WITHOUT ROWID
"""
"""`ranges` is a JSON list of pairs, `newest.data` a JSON object."""

ROLLED: Final = (Resolution.MINUTE, Resolution.FIVE_MINUTES, Resolution.HOUR)


class Period(NamedTuple):
    """What one file of a resolution covers, `to_ms` excluded."""

    resolution: Resolution
    from_ms: int
    to_ms: int

    def slot_of(self, at_ms: int) -> int:
        """Return which row of a series holds a moment of the period."""
        return (at_ms - self.from_ms) // slot_ms(self.resolution)


class Layout:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.index: Final = folder / "index.db"

    def raw(self, day: int) -> Path:
        return self._folder / "raw" / f"{_moment(day * DAY_MS):%Y-%m-%d}.db"

    def raw_days(self) -> list[int]:
        """Return the days that have a file, the oldest first. Raises OSError."""
        return [period.from_ms // DAY_MS for period in self.periods(Resolution.RAW)]

    def path_of(self, period: Period) -> Path:
        is_a_day = period.to_ms - period.from_ms == DAY_MS
        name = f"{_moment(period.from_ms):{'%Y-%m-%d' if is_a_day else '%Y-%m'}}.db"
        folder = "raw" if period.resolution is Resolution.RAW else f"rollups/{period.resolution.value}"
        return self._folder / folder / name

    def periods(self, resolution: Resolution) -> list[Period]:
        """Return the periods that have a file, the oldest first. Raises OSError."""
        folder = self.path_of(period_of(resolution, 0)).parent
        names = [path.name.removesuffix(".db") for path in folder.glob("*.db")] if folder.is_dir() else []
        found = (_period_named(resolution, name) for name in names)
        return sorted(period for period in found if period is not None)

    def total_bytes(self) -> int:
        """Return what all files take on disk."""
        return sum(_size_of(path) for path in self._folder.rglob("*.db*"))


def period_of(resolution: Resolution, at_ms: int) -> Period:
    """Return the period that holds a moment: a day, or a month for the coarse resolutions."""
    if resolution in {Resolution.RAW, Resolution.MINUTE}:
        first = at_ms - at_ms % DAY_MS
        return Period(resolution, first, first + DAY_MS)
    month = _moment(at_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + timedelta(days=32)).replace(day=1)
    return Period(resolution, _milliseconds(month), _milliseconds(following))


def slot_ms(resolution: Resolution) -> int:
    """Return how long a row of rollups is."""
    return DAY_MS if resolution is Resolution.HOUR else HOUR_MS


def hours_in(mask: int) -> Iterator[int]:
    """Yield the hours whose bits are set."""
    return (hour for hour in range(HOURS) if mask >> hour & 1)


def hour_key(series: int, hour: int) -> int:
    """Return the key of part 0 of a series and hour; those of its other parts follow up to PARTS_MAX."""
    return series << SLOT_BITS | hour << PART_BITS


def hour_of(key: int) -> int:
    return key >> PART_BITS & ((1 << (SLOT_BITS - PART_BITS)) - 1)


def series_of(key: int) -> int:
    return key >> SLOT_BITS


def slot_key(series: int, slot: int) -> int:
    return series << SLOT_BITS | slot


def _period_named(resolution: Resolution, name: str) -> Period | None:
    for form in ("%Y-%m-%d", "%Y-%m"):
        try:
            moment = datetime.strptime(name, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return period_of(resolution, _milliseconds(moment))
    return None


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
