"""Credits, resolutions, buckets and bounded ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub_server.telemetry.engine import (
    BACKFILL_CREDITS,
    COMMIT_SECONDS_MAX,
    WAITING_SAMPLES_MAX,
    Series,
    credits_of,
    is_counter,
    resolution_seconds,
)
from hub_server.telemetry.model import RANGES_KEPT, Load, bounded
from protocol.enumerations import Lane
from protocol.limits import STREAM_CREDITS
from protocol.ranges import SequenceRanges

loads = st.builds(Load, st.integers(0, 2 * WAITING_SAMPLES_MAX), st.floats(0, 3 * COMMIT_SECONDS_MAX))


@given(load=loads, more_samples=st.integers(0, WAITING_SAMPLES_MAX), more_seconds=st.floats(0, COMMIT_SECONDS_MAX))
def test_more_load_never_gives_more_credits_and_live_samples_always_get_one(
    load: Load, more_samples: int, more_seconds: float
) -> None:
    heavier = Load(load.waiting_samples + more_samples, load.commit_seconds + more_seconds)
    for lane in Lane:
        assert credits_of(lane, heavier) <= credits_of(lane, load)
    assert 1 <= credits_of(Lane.LIVE, load) <= STREAM_CREDITS
    assert 0 <= credits_of(Lane.BACKFILL, load) <= BACKFILL_CREDITS


@given(load=loads)
def test_history_gives_way_before_live_samples(load: Load) -> None:
    if credits_of(Lane.LIVE, load) < STREAM_CREDITS:
        assert credits_of(Lane.BACKFILL, load) < BACKFILL_CREDITS
    if credits_of(Lane.LIVE, load) == 1:
        assert credits_of(Lane.BACKFILL, load) == 0


def test_a_store_that_keeps_up_gives_all_credits_and_one_that_does_not_the_least() -> None:
    def both(waiting: float, commit_seconds: float) -> tuple[int, int]:
        load = Load(int(waiting * WAITING_SAMPLES_MAX), commit_seconds)
        return credits_of(Lane.LIVE, load), credits_of(Lane.BACKFILL, load)

    assert both(0, 0.02) == (STREAM_CREDITS, BACKFILL_CREDITS)
    assert both(0.1, 0.2) == (STREAM_CREDITS, BACKFILL_CREDITS)
    assert both(0.35, 0) == (7, 1)
    assert both(0, COMMIT_SECONDS_MAX / 2) == (4, 0)
    assert both(1, 0) == both(0, COMMIT_SECONDS_MAX) == both(9, 99) == (1, 0)


@given(start=st.integers(0, 10**13), span_ms=st.integers(1, 2 * 10**12), points=st.integers(1, 60), data=st.data())
def test_a_chart_never_has_more_points_than_asked_for(
    start: int, span_ms: int, points: int, data: st.DataObject
) -> None:
    resolution = resolution_seconds(span_ms, points)
    series = Series(["x"], resolution_ms=resolution * 1000, origin_ms=0 if points > 1 else start)
    edges = {0, span_ms - 1} | {min(span_ms - 1, resolution * 1000 * n) for n in range(points + 2)}
    offsets = data.draw(st.lists(st.integers(0, span_ms - 1), max_size=30))
    for offset in sorted(edges.union(offsets)):
        series.add([(start + offset, [1.0])])
    result = series.result("a")
    assert len(result.timestamps) <= points
    assert result.timestamps == sorted(set(result.timestamps))
    assert len(result.values["x"]) == len(result.timestamps)


def test_a_day_and_a_week_are_shown_at_known_steps() -> None:
    day_ms = 24 * 3600 * 1000
    assert resolution_seconds(3600 * 1000, 500) == 10
    assert resolution_seconds(day_ms, 500) == 300
    assert resolution_seconds(7 * day_ms, 500) == 1800
    assert resolution_seconds(30 * day_ms, 500) == 6 * 3600
    assert resolution_seconds(20_000 * day_ms, 500) == 6 * 7 * 24 * 3600


def test_counters_are_known_by_name() -> None:
    assert is_counter("network_bytes_recv")
    assert is_counter("uptime_seconds")
    assert not is_counter("network_recv_bytes_per_sec")


def test_ranges_of_a_stream_full_of_gaps_stay_bounded() -> None:
    ranges = SequenceRanges((number, number) for number in range(1, 4 * RANGES_KEPT, 2))
    newest = ranges.to_list()[-100:]
    while len(ranges) > RANGES_KEPT:
        bounded(ranges)
    assert ranges.to_list()[-100:] == newest
    few = SequenceRanges([(1, 3), (9, 9)])
    assert bounded(few).to_list() == [(1, 3), (9, 9)]
