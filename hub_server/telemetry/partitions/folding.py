"""What one piece of packing writes, from the samples it takes and the rows that are there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from hub_server.telemetry.bounds import HOUR_TEXT_MAX, within
from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.packing import ABSENT, Absent, BadChunk, packed_columns, rows_in, sized
from hub_server.telemetry.partitions.periods import DAY_MS, HOUR_MS
from hub_server.telemetry.port import RollupColumns
from hub_server.telemetry.rollups import between, coarser, decoded, encoded, merged, rolled_columns
from protocol.frames import MetricValue

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode

Sample = tuple[int, Mapping[str, MetricValue]]


class Taken(NamedTuple):
    """A sample that was not packed; `data` is JSON text."""

    agent_id: str
    metric_type: str
    organisation_id: str
    ts_ms: int
    data: str


class Place(NamedTuple):
    """A series and the beginning of an hour or a day."""

    agent_id: str
    metric_type: str
    from_ms: int


class Piece(Struct, frozen=True):
    """Rows to write, each in the order of its table's columns. `damaged` are chunks that could not be read, `cut` hours
    of which samples were left out: more than an hour may have.
    """

    chunks: list[tuple[str, str, str, int, bytes]]
    rollups: dict[Resolution, list[tuple[str, str, str, int, int, bytes]]]
    newest: list[tuple[str, str, str, int, str]]
    damaged: list[Place]
    cut: list[Place]


def hour_of(taken: Taken) -> Place:
    return Place(taken.agent_id, taken.metric_type, taken.ts_ms - taken.ts_ms % HOUR_MS)


def day_of(taken: Taken) -> Place:
    return Place(taken.agent_id, taken.metric_type, taken.ts_ms - taken.ts_ms % DAY_MS)


def folded(
    samples: Iterable[Taken],
    chunks: Mapping[Place, bytes],
    days: Mapping[Place, tuple[int, bytes]],
    rest: Callable[[], None] = lambda: None,
) -> Piece:
    """Return what stands instead of `samples`. Calls `rest` between bits of work of a few milliseconds.

    `chunks` are the packed samples of their hours, `days` the rows of their days in hours: (until, body).
    """
    piece = Piece([], {resolution: [] for resolution in BUCKET_MS}, [], [], [])
    by_hour: dict[Place, list[Taken]] = {}
    newest: dict[tuple[str, str], Taken] = {}
    for taken in samples:
        by_hour.setdefault(hour_of(taken), []).append(taken)
        best = newest.get(taken[:2])
        if best is None or best.ts_ms <= taken.ts_ms:
            newest[taken[:2]] = taken
    piece.newest.extend(map(tuple, newest.values()))  # type: ignore[arg-type]
    hours: dict[Place, list[tuple[int, RollupColumns]]] = {}
    for place, added in by_hour.items():
        rest()
        hours.setdefault(day_of(added[0]), []).append(_fold_hour(piece, place, added, chunks.get(place)))
    organisations = {day_of(taken): taken.organisation_id for taken in samples}
    for place, parts in hours.items():
        _fold_day(piece, place, organisations[place], parts, days.get(place))
    return piece


def _fold_hour(piece: Piece, place: Place, added: Sequence[Taken], chunk: bytes | None) -> tuple[int, RollupColumns]:
    """Write the hour's chunk and its finer rollups; returns the time of its newest sample, and its own bucket."""
    before: list[Sample] = []
    room = HOUR_TEXT_MAX
    if chunk is not None:
        try:
            held, length = sized(chunk)
            before = [*zip(*rows_in(held), strict=True)]
            room -= length
        except BadChunk:
            piece.damaged.append(place)
    kept = within([*before, *_decoded(added, room)])
    if len(kept) < len(before) + len(added):
        piece.cut.append(place)
    rows = sorted(kept, key=_time)
    timestamps = [at_ms for at_ms, _ in rows]
    columns = _columns([data for _, data in rows])
    series = (place.agent_id, place.metric_type, added[0].organisation_id)
    piece.chunks.append((*series, place.from_ms, packed_columns(timestamps, columns)))
    minutes = rolled_columns(timestamps, columns, BUCKET_MS[Resolution.MINUTE])
    fives = coarser(minutes, BUCKET_MS[Resolution.FIVE_MINUTES])
    for resolution, rollup in ((Resolution.MINUTE, minutes), (Resolution.FIVE_MINUTES, fives)):
        piece.rollups[resolution].append((*series, place.from_ms, timestamps[-1], encoded(rollup)))
    return timestamps[-1], coarser(fives, BUCKET_MS[Resolution.HOUR])


def _decoded(added: Iterable[Taken], room: int) -> Iterator[Sample]:
    """Yield the samples for which there is room, by the length of their text."""
    for taken in added:
        if len(taken.data) <= room:
            room -= len(taken.data)
            yield taken.ts_ms, _decode(taken.data)


def _columns(rows: Sequence[Mapping[str, MetricValue]]) -> dict[str, Sequence[MetricValue | Absent]]:
    if len({tuple(row) for row in rows}) == 1:  # as nearly always: the same names in the same order
        return dict(zip(rows[0], zip(*(row.values() for row in rows), strict=True), strict=True))
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, ABSENT) for row in rows] for name in names}


def _fold_day(
    piece: Piece,
    place: Place,
    organisation_id: str,
    hours: Sequence[tuple[int, RollupColumns]],
    before: tuple[int, bytes] | None,
) -> None:
    """Write the day's row, the buckets of `hours` new in it."""
    until_ms = max(newest_ms for newest_ms, _ in hours)
    parts = [hour for _, hour in hours]
    if before is not None:
        until_ms = max(until_ms, before[0])
        parts += _without(decoded(before[1]), {hour.timestamps[0] for hour in parts})
    parts.sort(key=lambda part: part.timestamps[0])
    body = encoded(merged(parts, BUCKET_MS[Resolution.HOUR]))
    series = (place.agent_id, place.metric_type, organisation_id)
    piece.rollups[Resolution.HOUR].append((*series, place.from_ms, until_ms, body))


def _without(rollup: RollupColumns, starts: set[int]) -> list[RollupColumns]:
    return [between(rollup, start, start + 1) for start in rollup.timestamps if start not in starts]


def _time(row: Sample) -> int:
    return row[0]
