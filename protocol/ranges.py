"""Sets of sequence numbers as closed ranges: what a stream's receiver holds."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence


class SequenceRanges:
    """An ordered set of integers below 2**63, compact while they are mostly contiguous.

    Ranges are closed, disjoint, ascending and never adjacent. Mutable: owned by one stream.
    """

    __slots__ = ("_ends",)

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._ends = array("q")  # first, last, first, last …: for the garbage collector there is nothing in it
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add every number from `first` to `last` (both included).

        Raises ValueError when `last` is below `first`.
        """
        ends = self._ends
        last = first if last is None else last
        if last < first:
            raise ValueError(f"range {first}..{last} ends before it starts")
        if ends and first == ends[-1] + 1:  # what comes next, nearly always
            ends[-1] = last
            return
        low = bisect_left(ends, first - 1) & ~1
        high = low
        while high < len(ends) and ends[high] <= last + 1:
            first = min(first, ends[high])
            last = max(last, ends[high + 1])
            high += 2
        ends[low:high] = array("q", (first, last))

    def copy(self) -> SequenceRanges:
        """Return the same numbers, to be changed apart."""
        ranges = SequenceRanges()
        ranges._ends = self._ends[:]
        return ranges

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        ends = self._ends
        index = bisect_left(ends, number)
        return index < len(ends) and (index % 2 == 1 or ends[index] == number)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        ends = self._ends
        return zip(ends[::2], ends[1::2], strict=True)

    def __len__(self) -> int:
        """Return the number of ranges, not of numbers."""
        return len(self._ends) // 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SequenceRanges) and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SequenceRanges({list(self)})"

    @property
    def newest(self) -> int:
        """Return the highest number, 0 when empty."""
        return self._ends[-1] if self._ends else 0

    def count(self) -> int:
        return sum(last - first + 1 for first, last in self)

    def to_list(self) -> list[tuple[int, int]]:
        ends = self._ends
        return [(ends[0], ends[1])] if len(ends) == 2 else list(self)
