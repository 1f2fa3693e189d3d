"""Chunks give back what was put in, in few bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub_server.telemetry.packing import BadChunk, columns_of, packed, unpacked
from protocol.frames import MetricValue

START_MS = 1_763_800_000_000
scalars: st.SearchStrategy[MetricValue] = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(0, 100).map(lambda value: round(value, 1))
    | st.text(max_size=8)
    | st.none()
    | st.lists(st.dictionaries(st.sampled_from("ab"), st.integers(0, 9), max_size=2), max_size=2)
)
Rows = list[dict[str, MetricValue]]
rows_of_samples = st.lists(st.dictionaries(st.sampled_from(("cpu", "disk", "up")), scalars, max_size=3), max_size=40)


@given(rows=rows_of_samples, gap_ms=st.integers(0, 2**40))
@example(rows=[{"cpu": 0.1}, {"cpu": 1e308}], gap_ms=1)
def test_a_chunk_gives_back_its_samples(rows: Rows, gap_ms: int) -> None:
    timestamps = [START_MS + index * gap_ms for index in range(len(rows))]
    assert unpacked(packed(timestamps, rows)) == (timestamps, rows)


@given(values=st.lists(st.integers(0, 1000), min_size=1), as_float=st.booleans())
def test_numbers_keep_their_kind(values: list[int], as_float: bool) -> None:
    rows: Rows = [{"n": value / 10 if as_float else value} for value in values]
    kinds = {type(row["n"]) for row in unpacked(packed(range(len(rows)), rows))[1]}
    assert kinds == {float if as_float else int}


def test_a_day_of_percentages_takes_few_bytes() -> None:
    rows: Rows = [{"cpu": 20 + (index * 7919 % 200) / 10, "total": 2**33} for index in range(360)]
    assert len(packed([START_MS + 10_000 * index for index in range(360)], rows)) < 2.5 * 360


def test_columns_are_cut_to_the_span_and_hold_numbers_alone() -> None:
    rows: Rows = [
        {"cpu": 1.5, "mount": "/"},
        {"mount": "/"},
        {"cpu": 2, "mount": "/"},
        {"cpu": 9.5},
    ]
    found = columns_of(packed([10, 20, 30, 40], rows), ("cpu", "mount", "nothing"), 20, 40)
    assert found.timestamps == [20, 30]
    assert found.values == {"cpu": [None, 2], "mount": [None, None], "nothing": [None, None]}


@pytest.mark.parametrize("body", [b"", b"\x02abc", b"\x01abc", packed([1], [{"a": 1}])[:-3]])
def test_what_is_no_chunk_is_refused(body: bytes) -> None:
    with pytest.raises(BadChunk):
        unpacked(body)
