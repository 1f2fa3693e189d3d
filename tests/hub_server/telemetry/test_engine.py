"""Resolutions, buckets and bounded ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub_server.telemetry.engine import Series, is_counter, resolution_seconds
from hub_server.telemetry.model import RANGES_KEPT, bounded
from protocol.ranges import SequenceRanges


@given(start=st.integers(0, 10**13), span_ms=st.integers(1, 2 * 10**12), points=st.integers(1, 60), data=st.data())
def test_a_chart_never_has_more_points_than_asked_for(
    start: int, span_ms: int, points: int, data: st.DataObject
) -> None:
    resolution = resolution_seconds(span_ms, points)
    series = Series(["x"], resolution_ms=resolution * 1000, origin_ms=0 if points > 1 else start)
    edges = {0, span_ms - 1} | {min(span_ms - 1, resolution * 1000 * n) for n in range(points + 2)}
    offsets = data.draw(st.lists(st.integers(0, span_ms - 1), max_size=30))
    for offset in sorted(edges.union(offsets)):
        series.add([(start + offset, '{"x": 1}')])
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
