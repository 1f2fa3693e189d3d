"""Packing, in pieces: hot rows into parts, parts of ended hours into chunks and rollups, and then the rows away.

For one thread. What changes a day's file is handed to the writer's thread and awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import structlog

from hub_server.rests import Rests
from hub_server.telemetry.day_files.day import ClosedPiece, Day, PackedPiece, Round
from hub_server.telemetry.day_files.gathering import (
    TEXT_AT_ONCE_MAX,
    GatheredHour,
    TooMuchText,
    WholeHour,
    gathered,
    hour_of_text,
    hours_of,
    open_series,
    with_chunks,
)
from hub_server.telemetry.day_files.index import Index, NewestRow
from hub_server.telemetry.day_files.layout import DAY_MS, HOUR_MS, HOURS, PARTS_MAX, hour_of, series_of
from hub_server.telemetry.day_files.mirror import Mirror
from hub_server.telemetry.day_files.readers import Readers
from hub_server.telemetry.day_files.rollup_files import RolledHour, RollupFiles, rolled_hour
from hub_server.telemetry.day_files.samples import Names, data_in, encode_values
from hub_server.telemetry.model import StoredRanges, StreamKey
from hub_server.telemetry.packing import packed_columns

log = structlog.get_logger(component="telemetry")

ROUND_MS: Final = 15 * 60_000
ROUND_ROWS: Final = 200_000
ROUND_ROWS_PER_SERIES: Final = 16
"""A round before its time pays only when it finds some rows of each series."""
CLOSING_GRACE_MS: Final = 2 * 60_000
"""How long samples of an hour that has ended may still come as a matter of course."""
PIECE_ROWS: Final = 5_000
"""Four times as many cost 0.4 us a row less, and leave the hub 5 MB larger for good."""
CLOSED_AT_ONCE: Final = 48
INDEX_ROWS: Final = 2_000


class Writer(Protocol):
    """Runs something in the writer's thread and waits for what it returns."""

    def __call__(self, work: Callable[..., Any], /, *arguments: Any) -> Any: ...


class Piece(NamedTuple):
    """All rows of some series up to `last_row`."""

    last_row: int
    series: Sequence[int]
    rows: Sequence[int]

    def halves(self) -> tuple[Piece, Piece]:
        """Return the earlier rows and the later ones."""
        ordered = sorted(self.rows)
        middle = len(ordered) // 2
        return Piece(ordered[middle - 1], self.series, ordered[:middle]), self._replace(rows=ordered[middle:])


class Begun(NamedTuple):
    """When work on a day began, and which hours had ended then."""

    at_ms: int
    ended: int

    def is_due(self, now_ms: int, ended: int) -> bool:
        return ended != self.ended or not 0 <= now_ms - self.at_ms < ROUND_MS


class Progress:
    __slots__ = ("closed", "packed")

    def __init__(self) -> None:
        self.packed = self.closed = Begun(-ROUND_MS, 0)


class Packer:
    def __init__(
        self,
        *,
        days: Mapping[int, Day],
        index: Index,
        rollups: RollupFiles,
        write: Writer,
        ranges_of: Callable[[set[StreamKey]], Sequence[StoredRanges]],
        rests: Rests,
    ) -> None:
        """`ranges_of` is called in the writer's thread."""
        self._days = days
        self._index = index
        self._rollups = rollups
        self._write = write
        self._ranges_of = ranges_of
        self._progress: dict[int, Progress] = {}
        self._work: Iterator[int] | None = None
        self._round = 0
        self._rests = rests
        self.readers: Final = Readers(TEXT_AT_ONCE_MAX)
        self.cut_hours = 0

    def pack(self, now_ms: int) -> int:
        """Do the next piece that packs samples; returns how many, 0 when nothing is due.

        What fails is given up and begun anew by a later call. Raises sqlite3.Error, OSError.
        """
        while True:
            if self._work is None:
                self._work = self._next_work(now_ms)
            if self._work is None:
                return 0
            try:
                samples = next(self._work)
            except StopIteration:
                self._work = None
                continue
            except BaseException:
                self._work = None
                self._progress.clear()
                raise
            if samples:
                return samples

    def finish(self, day: Day) -> None:
        """Pack and close all of a day that is about to go. Raises as `pack` does."""
        self._work = None
        for work in (self._packing, self._closing):
            for _ in work(day, day.from_ms + 2 * DAY_MS):
                pass

    def close(self) -> None:
        self._work = None
        self.readers.close()

    def forget(self, day: Day) -> None:
        self._work = None
        self._progress.pop(day.number, None)
        self.readers.forget(day.path)

    def _next_work(self, now_ms: int) -> Iterator[int] | None:
        for number in sorted(self._days, reverse=True):
            day = self._days[number]
            progress = self._progress.setdefault(number, Progress())
            ended = ended_hours(day, now_ms)
            if day.has_rows and (progress.packed.is_due(now_ms, ended) or _is_full(day.mirror)):
                progress.packed = Begun(now_ms, ended)
                return self._packing(day, now_ms)
            if day.has_open_hours and ended and progress.closed.is_due(now_ms, ended):
                progress.closed = Begun(now_ms, ended)
                return self._closing(day, now_ms)
        return None

    def _packing(self, day: Day, now_ms: int) -> Iterator[int]:
        """A round. Yields how many samples each piece packed."""
        self._round += 1
        started: Round = self._write(day.begin_round)
        try:
            for piece in _pieces(day.mirror, started):
                yield from self._packing_piece(day, piece, ended_hours(day, now_ms))
            ranges: Sequence[StoredRanges] = self._write(self._ranges_of, started.touched)
            for position in range(0, len(ranges), INDEX_ROWS):
                self._index.save_ranges(ranges[position : position + INDEX_ROWS])
                yield 0
        except BaseException:
            self._write(day.mirror.touched.update, started.touched)
            raise
        while self._write(day.delete_rows, started.last_row):
            yield 0
        self._write(day.end_round, now_ms)

    def _packing_piece(self, day: Day, piece: Piece, ended: int) -> Iterator[int]:
        """Pack a piece, in slices when its rows are more text than is read at once."""
        waiting = [piece]
        while waiting:
            part = waiting.pop()
            try:
                yield self._pack(day, part, ended)
            except TooMuchText:
                waiting += reversed(part.halves())
            if waiting:
                self._round += 1  # each slice has a part of its own, so that none is more than is read at once

    def _pack(self, day: Day, piece: Piece, ended: int) -> int:
        with self.readers.snapshot(day.path) as file:
            if file is None:
                return 0
            shapes = file.shapes
            found = gathered(file, piece.rows)
            candidates = [each.key for each in found if ended >> each.hour & 1][:CLOSED_AT_ONCE]
            whole = {*candidates} - with_chunks(file, candidates)
        newest: list[NewestRow] = []
        for each in found:
            newest.append(_newest_row(each, shapes))
            self._rests.rest()
        self._index.save_newest(newest)
        chunks, _ = self._closed(day, (hour_of_text(each, shapes) for each in found if each.key in whole))
        part = 1 + self._round % PARTS_MAX
        parts = {each.key + part: each.text for each in found if each.key not in chunks}
        opened = dict.fromkeys(piece.series, 0)
        for each in found:
            if each.key not in chunks:
                opened[each.series] |= 1 << each.hour
        self._write(day.save_packed, PackedPiece(piece.last_row, parts, chunks, opened))
        return sum(each.samples for each in found)

    def _closing(self, day: Day, now_ms: int) -> Iterator[int]:
        """Close the ended hours of all series. Yields how many samples are in the chunks of each piece."""
        ended = ended_hours(day, now_ms)
        after = 0
        while True:
            with self.readers.snapshot(day.path) as file:
                found = open_series(file, after, ended, CLOSED_AT_ONCE) if file is not None else []
                if file is None or not found:
                    break
                chunks, samples = self._closed(day, hours_of(file, found))
            closed: dict[int, int] = {}
            for key in chunks:
                closed[series_of(key)] = closed.get(series_of(key), 0) | 1 << hour_of(key)
            self._write(day.save_closed, ClosedPiece(chunks, closed))
            after = max(closed) - 1  # the last one may have more hours
            yield samples
        self._write(day.end_closing, now_ms)

    def _closed(self, day: Day, hours: Iterable[WholeHour]) -> tuple[dict[int, bytes], int]:
        """Write the rollups of hours and return their chunks, empty where there is no sample, and how many samples are
        in them. Holds the samples of one hour at a time; leaves out what follows when the chunks are as much as is read
        at once.
        """
        samples = length = 0
        chunks: dict[int, bytes] = {}
        rolled: list[RolledHour] = []
        for key, name, block, is_cut in hours:
            self._rests.rest()
            if is_cut:
                self.cut_hours += 1
                log.error(
                    "samples of an hour left out: more names, samples or text than an hour may have",
                    agent_id=name[1],
                    metric_type=name[2],
                    hour_ms=day.from_ms + hour_of(key) * HOUR_MS,
                )
            chunks[key] = packed_columns(block.timestamps, block.columns) if block.timestamps else b""
            if block.timestamps:
                self._rests.rest()
                rolled.append(rolled_hour(name, day.from_ms + hour_of(key) * HOUR_MS, block))
                samples += len(block.timestamps)
            length += len(chunks[key])
            if length >= TEXT_AT_ONCE_MAX:
                break
        self._rollups.write(rolled)
        return chunks, samples


def ended_hours(day: Day, now_ms: int) -> int:
    """Return the hours of a day, as bits, of which no more samples are expected."""
    count = (now_ms - CLOSING_GRACE_MS - day.from_ms) // HOUR_MS
    return (1 << min(max(count, 0), HOURS)) - 1


def _is_full(mirror: Mirror) -> bool:
    return mirror.unpacked > max(ROUND_ROWS, ROUND_ROWS_PER_SERIES * len(mirror.hot.series))


def _pieces(mirror: Mirror, started: Round) -> Iterator[Piece]:
    """Yield series and the rows of them that belong to the round."""
    series: list[int] = []
    rows: list[int] = []
    for number in started.series:
        series.append(number)
        rows += mirror.hot.of(number, started.last_row)
        if len(rows) >= PIECE_ROWS:
            yield Piece(started.last_row, series, rows)
            series, rows = [], []
    if series:
        yield Piece(started.last_row, series, rows)


def _newest_row(each: GatheredHour, shapes: Mapping[int, Names]) -> NewestRow:
    organisation_id, agent_id, metric_type = each.name
    data = encode_values(data_in(each.newest_shape, each.newest_data, shapes)).decode()
    return NewestRow(agent_id, metric_type, organisation_id, each.newest_ms, data)
