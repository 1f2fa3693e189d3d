"""Sets of sequence numbers as closed ranges: what a stream's receiver holds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence


class SequenceRanges:
    """An ordered set of integers, compact while they are mostly contiguous.

    Ranges are closed, disjoint, ascending and never adjacent. Mutable: owned by one stream.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add every number from `first` to `last` (both included).

        Raises ValueError when `last` is below `first`.
        """
        last = first if last is None else last
        if last < first:
            raise ValueError(f"range {first}..{last} ends before it starts")
        if self._lasts and first == self._lasts[-1] + 1:  # what comes next, nearly always
            self._lasts[-1] = last
            return
        low = bisect_left(self._lasts, first - 1)
        high = low
        while high < len(self._firsts) and self._firsts[high] <= last + 1:
            first = min(first, self._firsts[high])
            last = max(last, self._lasts[high])
            high += 1
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    @classmethod
    def from_flat(cls, flat: Sequence[int]) -> SequenceRanges:
        """Return what `flat` was made of."""
        ranges = cls()
        ranges._firsts[:] = flat[::2]
        ranges._lasts[:] = flat[1::2]
        return ranges

    def flat(self) -> tuple[int, ...]:
        """Return first, last, first, last …: one object, and for the garbage collector none."""
        if len(self._firsts) == 1:
            return self._firsts[0], self._lasts[0]
        return tuple(number for ends in self for number in ends)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        index = bisect_left(self._lasts, number)
        return index < len(self._firsts) and self._firsts[index] <= number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """Return the number of ranges, not of numbers."""
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SequenceRanges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SequenceRanges({list(self)})"

    @property
    def newest(self) -> int:
        """Return the highest number, 0 when empty."""
        return self._lasts[-1] if self._lasts else 0

    def count(self) -> int:
        return sum(last - first + 1 for first, last in self)

    def to_list(self) -> list[tuple[int, int]]:
        return list(self)
