"""Buckets say of their samples what the samples say."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.telemetry.packing import BadChunk
from hub_server.telemetry.port import RollupColumns
from hub_server.telemetry.rollups import (
    TooLong,
    between,
    coarser,
    decoded,
    decoded_text,
    encoded,
    in_order,
    is_counter,
    merged,
    rolled,
    text_in,
)
from protocol.frames import MetricValue

MINUTE_MS = 60_000
samples = st.lists(
    st.tuples(st.integers(0, 20 * MINUTE_MS), st.integers(0, 1000).map(lambda n: n / 10) | st.none() | st.booleans()),
    min_size=1,
).map(lambda rows: sorted(rows, key=lambda row: row[0]))
Rows = list[dict[str, MetricValue]]


def rollup_of(taken: list[tuple[int, float | None]], bucket_ms: int = MINUTE_MS) -> RollupColumns:
    rows: Rows = [{"cpu": value, "uptime_seconds": timestamp} for timestamp, value in taken]
    return rolled([timestamp for timestamp, _ in taken], rows, bucket_ms)


steady = st.builds(
    lambda first, values, gap: [
        (first + 10_000 * place, value) for place, value in enumerate(values) if place not in gap
    ],
    st.integers(0, MINUTE_MS),
    st.lists(st.integers(-1000, 1000).map(lambda n: n / 10), min_size=1, max_size=60),
    st.sampled_from([range(0), range(13, 14), range(20, 40)]),
)
"""Samples each 10 s, as agents take them, all of them or with a gap."""


@given(taken=samples | steady)
def test_a_bucket_holds_min_max_sum_and_count_of_its_numbers(taken: list[tuple[int, float | None]]) -> None:
    found = rollup_of(taken)
    assert found.timestamps == sorted({at - at % MINUTE_MS for at, _ in taken})
    for index, start in enumerate(found.timestamps):
        inside = [v for at, v in taken if start <= at < start + MINUTE_MS and type(v) is float]
        assert found.last["uptime_seconds"][index] == max(at for at, _ in taken if at < start + MINUTE_MS)
        if "cpu" not in found.counts:
            continue
        assert found.counts["cpu"][index] == len(inside)
        assert found.minima["cpu"][index] == (min(inside) if inside else None)
        assert found.maxima["cpu"][index] == (max(inside) if inside else None)
        assert found.sums["cpu"][index] == pytest.approx(len(inside) * fmean(inside) if inside else 0, abs=1e-3)


@given(taken=samples)
def test_buckets_survive_their_encoding(taken: list[tuple[int, float | None]]) -> None:
    found = rollup_of(taken)
    assert decoded(encoded(found)) == found
    assert set(decoded(encoded(found), ["uptime_seconds"]).counts) == set()


@given(taken=samples | steady, cut=st.integers(0, 20))
def test_coarser_and_merged_buckets_are_those_of_the_samples(taken: list[tuple[int, float | None]], cut: int) -> None:
    whole = rollup_of(taken, 5 * MINUTE_MS)
    minutes = rollup_of(taken)
    halves = [[row for row in taken if row[0] < cut * MINUTE_MS], [row for row in taken if row[0] >= cut * MINUTE_MS]]
    found = merged([rollup_of(half) for half in halves if half], 5 * MINUTE_MS)
    for rollup in (coarser(minutes, 5 * MINUTE_MS), found):
        assert rollup.timestamps == whole.timestamps
        assert (rollup.minima, rollup.maxima, rollup.counts) == (whole.minima, whole.maxima, whole.counts)
        assert rollup.last == whole.last
        assert {n: pytest.approx(v, abs=0.01) for n, v in rollup.sums.items()} == whole.sums


@given(taken=samples | steady, cut=st.integers(0, 20))
def test_parts_that_share_no_bucket_are_joined_in_order_of_time(
    taken: list[tuple[int, float | None]], cut: int
) -> None:
    whole = rollup_of(taken)
    before, after = between(whole, 0, cut * MINUTE_MS), between(whole, cut * MINUTE_MS, 1 << 40)
    assert in_order([after, before]) == whole
    other = rolled([30 * MINUTE_MS], [{"memory": 1.5}], MINUTE_MS)
    joined = in_order([other, whole])
    assert joined.timestamps == [*whole.timestamps, 30 * MINUTE_MS]
    assert joined.minima["memory"] == [None] * len(whole.timestamps) + [1.5]
    assert joined.last["uptime_seconds"] == [*whole.last["uptime_seconds"], None]


def test_no_more_text_is_unpacked_than_is_asked_for() -> None:
    minutes = range(0, 2000 * MINUTE_MS, MINUTE_MS)
    found = rolled(minutes, [{"cpu": 1.5} for _ in minutes], MINUTE_MS)
    body = encoded(found)
    text = text_in(body)
    assert len(text) > 20 * len(body)
    assert decoded_text(text_in(body, len(text) + 1)) == found
    for bytes_max in (-1, 0, 1, len(text) - 1):
        with pytest.raises(TooLong):
            text_in(body, bytes_max)
    for damaged in (b"", body[:-6], b"\x02" + body[1:], body[:1] + b"\0" + body[2:]):
        with pytest.raises(BadChunk):
            text_in(damaged, len(text) + 1)


def test_a_span_keeps_the_buckets_that_begin_in_it() -> None:
    found = rollup_of([(minute * MINUTE_MS, 1.5) for minute in range(5)])
    assert between(found, MINUTE_MS, 3 * MINUTE_MS).timestamps == [MINUTE_MS, 2 * MINUTE_MS]
    assert between(found, MINUTE_MS, 3 * MINUTE_MS).sums == {"cpu": [1.5, 1.5]}
    assert between(found, 9 * MINUTE_MS, 10 * MINUTE_MS).timestamps == []
    assert between(found, 0, 5 * MINUTE_MS) == found


def test_what_only_rises_is_a_counter() -> None:
    assert [is_counter(name) for name in ("uptime_seconds", "network_bytes_sent", "requests_total", "read_bytes")] == [
        True
    ] * 4
    assert not is_counter("cpu_percent")


def test_the_buckets_of_nothing_are_none() -> None:
    nothing = rollup_of([])
    assert coarser(nothing, 5 * MINUTE_MS) == merged([nothing], 5 * MINUTE_MS) == decoded(encoded(nothing)) == nothing


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 1.7e308, -1.7e308])
def test_the_greatest_numbers_of_the_wire_can_be_summed_up_and_written_down(value: float) -> None:
    """One agent's numbers must not keep the samples of all others from being packed."""
    rows: Rows = [{"cpu": value if at < 30 else -value} for at in range(60)]
    minutes = rolled([at * MINUTE_MS // 6 for at in range(60)], rows, MINUTE_MS)
    for rollup in (minutes, coarser(minutes, 5 * MINUTE_MS), merged([minutes, minutes], 60 * MINUTE_MS)):
        assert decoded(encoded(rollup)) == rollup
