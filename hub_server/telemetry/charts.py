"""What a chart is made of: which history is read for it, its points, and the points of a whole group. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from math import inf, isinf
from operator import add
from typing import Final

import msgspec
from msgspec import Struct

from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.packing import EXACT_INTEGER_MAX
from hub_server.telemetry.port import Columns, RollupColumns
from hub_server.telemetry.rollups import coarser, is_counter, rolled_columns
from protocol.telemetry import MetricSeries

SECOND_MS: Final = 1000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS
WIDTHS_MS: Final = (
    10 * SECOND_MS,
    30 * SECOND_MS,
    *(minutes * MINUTE_MS for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * HOUR_MS for hours in (1, 2, 3, 6, 12)),
    *(days * DAY_MS for days in (1, 2)),
)
"""Widths of a point; beyond them multiples of a week."""

ROLLUPS: Final = (Resolution.MINUTE, Resolution.FIVE_MINUTES, Resolution.HOUR)
SAMPLES_EVERY_MS: Final = 10 * SECOND_MS
"""What a sample is reckoned to stand for, before it is known how many there are."""
ROW_MS: Final[Mapping[Resolution, int]] = {
    Resolution.RAW: HOUR_MS,
    Resolution.MINUTE: HOUR_MS,
    Resolution.FIVE_MINUTES: HOUR_MS,
    Resolution.HOUR: DAY_MS,
}
"""How much of one agent's history a stored row holds."""
ROW_SECONDS: Final = 20e-6
VALUE_SECONDS: Final = 0.5e-6
"""What reading a row and a value of it is reckoned to take; only ratios matter."""
EASY_SECONDS: Final = 1.0
"""A finer history that takes longer is not read."""

NO_BUCKETS: Final = RollupColumns([], {}, {}, {}, {}, {})

Values = list[float | None]


class Span(Struct, frozen=True):
    """From `from_ms` to `to_ms`, which is excluded."""

    from_ms: int
    to_ms: int


class Plan(Struct, frozen=True, kw_only=True):
    """Read `resolution` of `read` and make points `width_ms` wide of it, counted from `origin_ms`."""

    resolution: Resolution
    width_ms: int
    origin_ms: int
    read: Span
    seconds: float


class Effort(Struct, frozen=True):
    """How many agents and metrics are asked of."""

    agents: int
    metrics: int

    def seconds(self, resolution: Resolution, span: Span) -> float:
        length_ms = span.to_ms - span.from_ms
        rows = self.agents * (length_ms // ROW_MS[resolution] + 1)
        values = self.agents * self.metrics * (length_ms // BUCKET_MS.get(resolution, SAMPLES_EVERY_MS) + 1)
        return rows * ROW_SECONDS + values * VALUE_SECONDS


def plan_of(
    span: Span, max_points: int, effort: Effort, *, oldest_ms: Mapping[Resolution, int], finest: Resolution
) -> Plan:
    """Return the finest chart of at most `max_points`, made of the coarsest history that serves it.

    `oldest_ms`: up to where each history goes back; one that does not go back to the beginning of the span is not read
    (but for the coarsest). What would take longer than EASY_SECONDS gives way to a coarser one.
    """
    for width_ms in WIDTHS_MS:
        resolution = _serving(width_ms, span.from_ms, oldest_ms, finest)
        if resolution is None:
            continue
        plan = _plan(resolution, width_ms, span, max_points, effort)
        if points_of(plan) <= max_points and plan.seconds <= EASY_SECONDS:
            return plan
    weeks = 1
    while points_of(plan := _plan(Resolution.HOUR, weeks * WEEK_MS, span, max_points, effort)) > max_points:
        weeks *= 2
    return plan


def _serving(width_ms: int, from_ms: int, oldest_ms: Mapping[Resolution, int], finest: Resolution) -> Resolution | None:
    """Return the coarsest history that gives points so wide; None when it does not go back far enough."""
    fitting = [resolution for resolution in ROLLUPS if width_ms % BUCKET_MS[resolution] == 0]
    resolution = fitting[-1] if fitting else Resolution.RAW
    if resolution is Resolution.RAW and finest is not Resolution.RAW:
        return None
    goes_back = resolution is Resolution.HOUR or oldest_ms[resolution] <= from_ms
    return resolution if goes_back else None


def _plan(resolution: Resolution, width_ms: int, span: Span, max_points: int, effort: Effort) -> Plan:
    bucket_ms = BUCKET_MS.get(resolution, 1)
    first_ms = span.from_ms - span.from_ms % bucket_ms
    read = Span(first_ms, span.to_ms)
    origin_ms = first_ms if max_points == 1 else 0
    seconds = effort.seconds(resolution, read)
    return Plan(resolution=resolution, width_ms=width_ms, origin_ms=origin_ms, read=read, seconds=seconds)


def points_of(plan: Plan) -> int:
    first, last = plan.read.from_ms - plan.origin_ms, plan.read.to_ms - 1 - plan.origin_ms
    return last // plan.width_ms - first // plan.width_ms + 1


def samples_in(rollup: RollupColumns) -> int | None:
    """Return how many samples the buckets stand for; None where only counters are in them, which do not tell."""
    return max((sum(counts) for counts in rollup.counts.values()), default=None)


def series_of_samples(agent_id: str, columns: Columns, metrics: Sequence[str]) -> MetricSeries:
    """Return every sample as a point of its own."""
    nothing: Values = [None] * len(columns.timestamps)
    return MetricSeries(
        agent_id=agent_id,
        timestamps=list(columns.timestamps),
        values={metric: list(columns.values.get(metric, nothing)) for metric in metrics},
    )


def series_of_rollup(agent_id: str, rollup: RollupColumns, metrics: Sequence[str]) -> MetricSeries:
    """Return every bucket as a point."""
    nothing: Values = [None] * len(rollup.timestamps)
    gauges = [metric for metric in metrics if not is_counter(metric)]
    return MetricSeries(
        agent_id=agent_id,
        timestamps=list(rollup.timestamps),
        values={
            metric: _means(rollup, metric) if metric in rollup.counts else list(rollup.last.get(metric, nothing))
            for metric in metrics
        },
        minima={metric: list(rollup.minima.get(metric, nothing)) for metric in gauges},
        maxima={metric: list(rollup.maxima.get(metric, nothing)) for metric in gauges},
    )


def in_points(columns: Columns | RollupColumns, plan: Plan) -> RollupColumns:
    """Return samples, or buckets of a finer history, in buckets as wide as the plan's points."""
    if not columns.timestamps:
        return NO_BUCKETS
    origin_ms = plan.origin_ms
    shifted = [timestamp - origin_ms for timestamp in columns.timestamps] if origin_ms else columns.timestamps
    if isinstance(columns, Columns):
        found = rolled_columns(shifted, columns.values, plan.width_ms)
    elif plan.width_ms == BUCKET_MS[plan.resolution]:
        return columns
    else:
        found = coarser(msgspec.structs.replace(columns, timestamps=shifted), plan.width_ms)
    if not origin_ms:
        return found
    return msgspec.structs.replace(found, timestamps=[timestamp + origin_ms for timestamp in found.timestamps])


class GroupSeries:
    """Sums up the points of a group's agents, one agent after the other.

    A gauge's point is the mean of all samples of all agents, with the least and the greatest of them; a counter's the
    sum of the agents' last values.
    """

    def __init__(self, plan: Plan, metrics: Sequence[str]) -> None:
        self._width_ms = plan.width_ms
        self._first_ms = plan.read.from_ms - (plan.read.from_ms - plan.origin_ms) % plan.width_ms
        self._count = points_of(plan)
        self._metrics = metrics
        self._columns: dict[tuple[str, str], list[float]] = {}

    def add(self, rollup: RollupColumns) -> None:
        """Count what one agent has; `rollup` is in buckets as wide as the points."""
        if not rollup.timestamps:
            return
        places = [(timestamp - self._first_ms) // self._width_ms for timestamp in rollup.timestamps]
        for metric, counts in rollup.counts.items():
            self._fold("count", metric, places, counts, add)
            self._fold("sum", metric, places, rollup.sums[metric], add)
            self._fold("least", metric, places, _known(rollup.minima[metric], inf), min)
            self._fold("greatest", metric, places, _known(rollup.maxima[metric], -inf), max)
        for metric, last in rollup.last.items():
            self._fold("known", metric, places, [value is not None for value in last], add)
            self._fold("last", metric, places, _known(last, 0), add)

    def result(self, group: str, agents: int) -> MetricSeries:
        counts = [column for (part, _), column in self._columns.items() if part in {"count", "known"}]
        seen = [any(place) for place in zip(*counts, strict=True)] if counts else []
        starts = range(self._first_ms, self._first_ms + self._count * self._width_ms, self._width_ms)
        return MetricSeries(
            agent_id="",
            group=group,
            agents=agents,
            timestamps=list(compress(starts, seen)),
            values={metric: self._values(metric, seen) for metric in self._metrics},
            minima={metric: self._bounds("least", metric, seen) for metric in self._metrics if not is_counter(metric)},
            maxima={
                metric: self._bounds("greatest", metric, seen) for metric in self._metrics if not is_counter(metric)
            },
        )

    def _fold(
        self,
        part: str,
        metric: str,
        places: Sequence[int],
        values: Sequence[float],
        combine: Callable[[float, float], float],
    ) -> None:
        column = self._columns.get((part, metric))
        if column is None:
            column = self._columns[part, metric] = [_NEUTRAL[part]] * self._count
        low, high = places[0], places[-1] + 1
        if high - low == len(places):  # without a gap: a fifth of the time
            column[low:high] = map(combine, column[low:high], values)
            return
        for place, value in zip(places, values, strict=True):
            column[place] = combine(column[place], value)

    def _values(self, metric: str, seen: Sequence[bool]) -> Values:
        parts = ("last", "known") if is_counter(metric) else ("sum", "count")
        sums, counts = (compress(self._column(part, metric), seen) for part in parts)
        is_mean = not is_counter(metric)
        return [
            None if not count else total / count if is_mean else _writable(total)
            for total, count in zip(sums, counts, strict=True)
        ]

    def _bounds(self, part: str, metric: str, seen: Sequence[bool]) -> Values:
        return [None if isinf(value) else value for value in compress(self._column(part, metric), seen)]

    def _column(self, part: str, metric: str) -> Sequence[float]:
        return self._columns.get((part, metric)) or [_NEUTRAL[part]] * self._count


_NEUTRAL: Final = {"count": 0, "sum": 0, "known": 0, "last": 0, "least": inf, "greatest": -inf}


def _known(values: Sequence[float | None], otherwise: float) -> Sequence[float]:
    return [otherwise if value is None else value for value in values]


def _writable(total: float) -> float:
    """Return a sum as JSON can say it: an integer too great becomes a float."""
    return total if abs(total) <= EXACT_INTEGER_MAX else float(total)


def _means(rollup: RollupColumns, metric: str) -> Values:
    return [
        total / count if count else None
        for total, count in zip(rollup.sums[metric], rollup.counts[metric], strict=True)
    ]
