"""Which rows a series has: as a list for each series would say it, in a fraction of the memory."""

from __future__ import annotations

import tracemalloc
from bisect import bisect_right

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hub_server.telemetry.day_files import hot_rows
from hub_server.telemetry.day_files.hot_rows import NOBODY, HotRows

SERIES = (1, 2, 3)


class HotRowsBesideLists(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hot = HotRows()
        self.lists: dict[int, list[int]] = {series: [] for series in SERIES}
        self.next_row = 1

    @rule(series_of_rows=st.lists(st.sampled_from((NOBODY, *SERIES)), max_size=12), gap=st.sampled_from((0, 0, 0, 3)))
    def rows_come(self, series_of_rows: list[int], gap: int) -> None:
        self.next_row += gap
        self.hot.add(self.next_row, series_of_rows)
        for row, series in enumerate(series_of_rows, self.next_row):
            if series != NOBODY:
                self.lists[series].append(row)
        self.next_row += len(series_of_rows)

    @rule(series=st.sampled_from(SERIES), back=st.integers(0, 15))
    def rows_of_a_series_go(self, series: int, back: int) -> None:
        self._forget(series, self.next_row - back)

    @rule(series=st.sampled_from(SERIES))
    def a_series_goes(self, series: int) -> None:
        self.hot.forget(series)
        self.lists[series].clear()

    @rule(back=st.integers(0, 15))
    def a_round_ends(self, back: int) -> None:
        last_row = self.next_row - 1 - back
        for series in SERIES:
            self._forget(series, last_row)
        self.hot.compact(last_row)

    @invariant()
    def they_agree(self) -> None:
        middle = self.next_row - 5
        for series, rows in self.lists.items():
            assert self.hot.of(series) == rows
            assert self.hot.of(series, middle) == rows[: bisect_right(rows, middle)]
        assert sorted(self.hot.series) == [series for series, rows in self.lists.items() if rows]
        assert self.hot.count == sum(map(len, self.lists.values()))

    def _forget(self, series: int, last_row: int) -> None:
        self.hot.forget(series, last_row)
        del self.lists[series][: bisect_right(self.lists[series], last_row)]


TestHotRowsBesideLists = HotRowsBesideLists.TestCase


def bytes_of_hot_rows() -> int:
    """Return what its own lines allocated, whatever else this process does."""
    own = tracemalloc.Filter(inclusive=True, filename_pattern=hot_rows.__file__)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)


def test_a_row_takes_four_bytes_and_a_round_gives_them_back() -> None:
    """Of the series there are as many as of the rows that come at once."""
    hot, batch, batches = HotRows(), range(1, 501), 200
    hot.add(1, batch)
    tracemalloc.start()
    try:
        for number in range(1, batches):
            hot.add(1 + number * len(batch), batch)
        held_bytes = bytes_of_hot_rows()
        last_row = batches * len(batch)
        for series in batch:
            hot.forget(series, last_row)
        hot.compact(last_row)
        left_bytes = bytes_of_hot_rows()
    finally:
        tracemalloc.stop()
    assert held_bytes < 4.5 * last_row
    assert left_bytes < 2000
