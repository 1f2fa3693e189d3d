"""What fell out of the spool, exactly: ranges of sequences in which every number is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import MetricData

GAPS_MAX: Final = 256
RENEWED: Final = "renewed"


class Gap(Struct, frozen=True, kw_only=True):
    """Sequences `first_seq` to `last_seq` of `epoch`, both included, that the hub will not get under these numbers.

    `cause`: `bytes`, `age` and `disk` are entries lost for want of room; `restored` those lost with a database that
    went back; `renewed` numbers that stand for nothing lost (`dropped` 0): it comes, or came, under another epoch.
    `epoch` 0 is one that an earlier version did not tell.
    """

    stream: str
    epoch: int = 0
    cause: str
    dropped: int
    first_seq: int
    last_seq: int
    from_ms: int
    to_ms: int

    @classmethod
    def of(cls, stream: str, epoch: int, cause: str, span: tuple[int, int], at_ms: int) -> Gap:
        """Return one in which every sequence of `span`, both ends included, is lost; with `renewed` none is."""
        first, last = span
        dropped = 0 if cause == RENEWED else last - first + 1
        return cls(
            stream=stream,
            epoch=epoch,
            cause=cause,
            dropped=dropped,
            first_seq=first,
            last_seq=last,
            from_ms=at_ms,
            to_ms=at_ms,
        )

    def data(self) -> MetricData:
        return {name: getattr(self, name) for name in self.__struct_fields__}


def runs_of(stream: str, epoch: int, cause: str, entries: Iterable[tuple[int, int]]) -> list[Gap]:
    """Return what is missing once `entries`, (sequence, ms) each in ascending order, are gone: a gap a run."""
    gaps: list[Gap] = []
    for seq, ts in entries:
        single = Gap.of(stream, epoch, cause, (seq, seq), ts)
        if gaps and gaps[-1].last_seq + 1 == seq:
            gaps[-1] = _joined(gaps[-1], single)
        else:
            gaps.append(single)
    return gaps


def merged(gaps: Sequence[Gap], more: Iterable[Gap]) -> list[Gap]:
    """Return all, those that touch made one, `GAPS_MAX` at most.

    Beyond that the nearest ones are joined over what lies between them; then a gap's `dropped` is less than its span.
    """
    found: list[Gap] = []
    for gap in sorted((*gaps, *more), key=lambda gap: (gap.stream, gap.epoch, gap.first_seq)):
        if found and _are_alike(found[-1], gap) and found[-1].last_seq + 1 == gap.first_seq:
            found[-1] = _joined(found[-1], gap)
        else:
            found.append(gap)
    while len(found) > GAPS_MAX and (nearest := _nearest(found)) is not None:
        found[nearest : nearest + 2] = [_joined(found[nearest], found[nearest + 1])]
    return found


def complement(held: Iterable[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """Return the ranges of `first` to `last` that no range of `held`, ascending, covers."""
    missing: list[tuple[int, int]] = []
    at = first
    for low, high in held:
        if low > last:
            break
        if low > at:
            missing.append((at, low - 1))
        at = max(at, high + 1)
    return [*missing, (at, last)] if at <= last else missing


def _nearest(gaps: Sequence[Gap]) -> int | None:
    pairs = [index for index in range(len(gaps) - 1) if _are_alike(gaps[index], gaps[index + 1])]
    return min(pairs, key=lambda index: gaps[index + 1].first_seq - gaps[index].last_seq, default=None)


def _are_alike(one: Gap, other: Gap) -> bool:
    return (one.stream, one.epoch, one.cause) == (other.stream, other.epoch, other.cause)


def _joined(one: Gap, later: Gap) -> Gap:
    return replace(
        one,
        dropped=one.dropped + later.dropped,
        last_seq=max(one.last_seq, later.last_seq),
        from_ms=min(one.from_ms, later.from_ms),
        to_ms=max(one.to_ms, later.to_ms),
    )
