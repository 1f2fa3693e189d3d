"""Charts: what is read for them, and that their points are right whatever was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.telemetry.charts import (
    DAY_MS,
    EASY_SECONDS,
    HOUR_MS,
    MINUTE_MS,
    NO_BUCKETS,
    Effort,
    GroupSeries,
    Plan,
    Span,
    in_points,
    plan_of,
    points_of,
    series_of_rollup,
)
from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.port import Columns, RollupColumns
from hub_server.telemetry.rollups import rolled
from protocol.telemetry import MetricSeries

NOW_MS = 1_795_348_800_000
KEPT_DAYS = {Resolution.RAW: 7, Resolution.MINUTE: 30, Resolution.FIVE_MINUTES: 180, Resolution.HOUR: 730}
OLDEST_MS = {resolution: NOW_MS - days * DAY_MS for resolution, days in KEPT_DAYS.items()}
METRICS = ("cpu_percent", "network_bytes_sent")
Row = Mapping[str, float]


def planned(length_ms: int, points: int = 500, *, ago_ms: int = 0, agents: int = 1, metrics: int = 1) -> Plan:
    to_ms = NOW_MS - ago_ms
    span = Span(to_ms - length_ms, to_ms)
    return plan_of(span, points, Effort(agents, metrics), oldest_ms=OLDEST_MS, finest=Resolution.RAW)


@pytest.mark.parametrize(
    ("length_ms", "resolution", "width_seconds"),
    [
        (HOUR_MS, "raw", 10),
        (3 * HOUR_MS, "raw", 30),
        (6 * HOUR_MS, "1m", 60),
        (DAY_MS, "5m", 300),
        (7 * DAY_MS, "5m", 1800),
        (29 * DAY_MS, "1h", 2 * 3600),
        (365 * DAY_MS, "1h", 24 * 3600),
    ],
)
def test_usual_charts_are_made_of_the_coarsest_history_that_serves(
    length_ms: int, resolution: str, width_seconds: int
) -> None:
    plan = planned(length_ms)
    assert (plan.resolution.value, plan.width_ms) == (resolution, width_seconds * 1000)


def test_where_a_history_ends_the_next_coarser_one_serves() -> None:
    assert planned(HOUR_MS, ago_ms=6 * DAY_MS).resolution is Resolution.RAW
    assert planned(HOUR_MS, ago_ms=7 * DAY_MS).resolution is Resolution.MINUTE
    assert planned(HOUR_MS, ago_ms=31 * DAY_MS).resolution is Resolution.FIVE_MINUTES
    assert planned(HOUR_MS, ago_ms=700 * DAY_MS).resolution is Resolution.HOUR
    assert planned(HOUR_MS, ago_ms=5000 * DAY_MS).resolution is Resolution.HOUR


def test_a_large_fleet_is_charted_more_coarsely() -> None:
    assert planned(DAY_MS, agents=1000).resolution is Resolution.FIVE_MINUTES
    plan = planned(DAY_MS, agents=10_000)
    assert plan.resolution is Resolution.HOUR
    assert plan.seconds <= EASY_SECONDS


@given(
    length_ms=st.integers(1, 1000 * DAY_MS),
    ago_ms=st.integers(0, 1000 * DAY_MS),
    points=st.integers(1, 5000),
    agents=st.integers(0, 20_000),
    metrics=st.integers(1, 32),
)
def test_a_chart_has_no_more_points_than_asked_for_and_no_finer_one_would_do(
    length_ms: int, ago_ms: int, points: int, agents: int, metrics: int
) -> None:
    plan = planned(length_ms, points, ago_ms=ago_ms, agents=agents, metrics=metrics)
    span = Span(NOW_MS - ago_ms - length_ms, NOW_MS - ago_ms)
    assert points_of(plan) <= points
    bucket_ms = BUCKET_MS.get(plan.resolution, 1)
    assert plan.read.from_ms == span.from_ms // bucket_ms * bucket_ms
    assert plan.read.to_ms == span.to_ms
    assert plan.width_ms % bucket_ms == 0
    assert plan.resolution is Resolution.HOUR or OLDEST_MS[plan.resolution] <= span.from_ms
    halves = plan_of(span, 2 * points + 2, Effort(agents, metrics), oldest_ms=OLDEST_MS, finest=Resolution.RAW)
    assert halves.width_ms <= plan.width_ms


def in_order(found: Sequence[tuple[int, Row]]) -> list[tuple[int, Row]]:
    return sorted(found, key=lambda sample: sample[0])


rows = st.fixed_dictionaries(
    {},
    optional={
        "cpu_percent": st.integers(-999, 999).map(lambda eighths: eighths / 8),  # sums are exact to a thousandth
        "network_bytes_sent": st.integers(0, 2**40),
    },
)
histories = st.lists(
    st.tuples(st.integers(NOW_MS - 6 * HOUR_MS, NOW_MS - 1), rows), max_size=30, unique_by=lambda sample: sample[0]
).map(in_order)
plans = st.one_of(
    st.builds(planned, st.just(6 * HOUR_MS), st.integers(1, 400)),
    st.builds(planned, st.just(6 * HOUR_MS), st.integers(1, 400), agents=st.integers(1, 20_000)),
)


def read(history: Sequence[tuple[int, Row]], plan: Plan) -> MetricSeries:
    """Return the chart of one agent as it is made of what `plan` reads."""
    times = [at for at, _ in history]
    if plan.resolution is Resolution.RAW:
        columns = Columns(times, {metric: [row.get(metric) for _, row in history] for metric in METRICS})
        return series_of_rollup("a", in_points(columns, plan), METRICS)
    found = buckets_of(history, BUCKET_MS[plan.resolution])
    return series_of_rollup("a", in_points(found, plan), METRICS)


def buckets_of(history: Sequence[tuple[int, Row]], bucket_ms: int) -> RollupColumns:
    return rolled([at for at, _ in history], [row for _, row in history], bucket_ms) if history else NO_BUCKETS


def by_point(histories_: Sequence[Sequence[tuple[int, Row]]], plan: Plan, metric: str) -> dict[int, list[list[float]]]:
    """Return the values of each point, an agent a list."""
    found: dict[int, list[list[float]]] = {}
    for history in histories_:
        own: dict[int, list[float]] = {}
        for at, row in history:
            point = at - (at - plan.origin_ms) % plan.width_ms
            if metric in row:
                own.setdefault(point, []).append(row[metric])
        for point, values in own.items():
            found.setdefault(point, []).append(values)
    return found


def expected(histories_: Sequence[Sequence[tuple[int, Row]]], plan: Plan) -> dict[str, dict[int, float]]:
    cpu = by_point(histories_, plan, "cpu_percent")
    sent = by_point(histories_, plan, "network_bytes_sent")
    every = {point: [value for values in agents for value in values] for point, agents in cpu.items()}
    return {
        "mean": {point: sum(values) / len(values) for point, values in every.items()},
        "min": {point: min(values) for point, values in every.items()},
        "max": {point: max(values) for point, values in every.items()},
        "last": {point: sum(values[-1] for values in agents) for point, agents in sent.items()},
    }


def told(series: MetricSeries) -> dict[str, dict[int, float]]:
    columns = {
        "mean": series.values["cpu_percent"],
        "min": series.minima["cpu_percent"],
        "max": series.maxima["cpu_percent"],
        "last": series.values["network_bytes_sent"],
    }
    return {
        name: {at: value for at, value in zip(series.timestamps, column, strict=True) if value is not None}
        for name, column in columns.items()
    }


@given(history=histories, plan=plans)
def test_a_chart_of_rollups_is_the_chart_of_the_samples(history: list[tuple[int, Row]], plan: Plan) -> None:
    series = read(history, plan)
    assert told(series) == expected([history], plan)
    assert series.timestamps == sorted(set(series.timestamps))
    assert len(series.timestamps) <= points_of(plan)


@given(fleet=st.lists(histories, max_size=5), plan=plans)
def test_a_group_is_what_all_samples_of_its_agents_are(fleet: list[list[tuple[int, Row]]], plan: Plan) -> None:
    bucket_ms = BUCKET_MS.get(plan.resolution, plan.width_ms)
    group = GroupSeries(plan, METRICS)
    for history in fleet:
        found = buckets_of(history, bucket_ms)
        group.add(found if bucket_ms == plan.width_ms and not plan.origin_ms else in_points(found, plan))
    series = group.result("Bern", len(fleet))
    assert told(series) == expected(fleet, plan)
    assert (series.group, series.agents, series.agent_id) == ("Bern", len(fleet), "")


def test_a_full_history_and_one_with_gaps_make_the_same_group() -> None:
    plan = planned(6 * HOUR_MS)
    full = [(NOW_MS - minute * MINUTE_MS, {"cpu_percent": float(minute)}) for minute in range(300, 0, -1)]
    group = GroupSeries(plan, METRICS)
    for history in (full, full[::7]):
        group.add(buckets_of(history, plan.width_ms))
    assert told(group.result("", 2)) == expected([full, full[::7]], plan)


def test_the_greatest_counters_of_a_group_can_be_told() -> None:
    plan = planned(6 * HOUR_MS)
    group = GroupSeries(plan, METRICS)
    for _ in range(3):
        group.add(buckets_of([(NOW_MS - MINUTE_MS, {"network_bytes_sent": 2**63 - 1})], plan.width_ms))
    assert b"2.767" in msgspec.json.encode(group.result("", 3))
