"""Which hot rows each series has, in four bytes a row.

One array for all series, a place a row. It grows at its end alone: arrays that grow side by side, one for each series,
leave between them several times what they hold.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

NOBODY: Final = 0
"""In the place of a series: the row belongs to none."""


class _Links(NamedTuple):
    """The place of a row, its number less `first`, says how far back the row before it of its series is; 0: there is
    none.
    """

    first: int
    back: array[int]


class HotRows:
    """Numbers of rows, from 1 on, and of series. One thread changes it, any may ask: it is told all rows that were here
    before, but for those that are forgotten meanwhile.
    """

    def __init__(self) -> None:
        self._newest: Final[dict[int, int]] = {}
        self._links = _Links(1, array("I"))
        self.count = 0

    @property
    def series(self) -> list[int]:
        """Return those that have rows."""
        return [*self._newest]

    def add(self, first_row: int, series_of_rows: Sequence[int]) -> None:
        """Take rows that follow each other, all of them later than those that are here."""
        if not self._newest:
            self._links = _Links(first_row, array("I"))
        first, known = self._links
        newest, fresh = self._newest, dict[int, int]()
        back = array("I", bytes(known.itemsize * (first_row - first - len(known))))
        for row, series in enumerate(series_of_rows, first_row):
            back.append(row - (fresh.get(series) or newest.get(series, row)) if series else 0)
            fresh[series] = row
        self.count += len(series_of_rows) - series_of_rows.count(NOBODY)
        fresh.pop(NOBODY, None)
        known.extend(back)
        newest.update(fresh)  # last: who finds a row here finds its place

    def of(self, series: int, last_row: int | None = None) -> list[int]:
        """Return the rows of a series in order, those up to `last_row` or all."""
        row = self._newest.get(series, 0)
        first, back = self._links
        rows = []
        while row >= first:
            rows.append(row)
            distance = back[row - first]
            if not distance:
                break
            row -= distance
        rows.reverse()
        return rows if last_row is None else rows[: bisect_right(rows, last_row)]

    def forget(self, series: int, last_row: int | None = None) -> None:
        """Forget the rows of a series, those up to `last_row` or all."""
        rows = self.of(series)
        gone = len(rows) if last_row is None else bisect_right(rows, last_row)
        self.count -= gone
        if gone < len(rows):
            self._links.back[rows[gone] - self._links.first] = 0
        else:
            self._newest.pop(series, None)

    def compact(self, last_row: int) -> None:
        """Give back the memory of the places up to `last_row`, whose rows are all forgotten."""
        first, back = self._links
        gone = last_row + 1 - first
        if gone > 0:
            self._links = _Links(last_row + 1, back[gone:])
