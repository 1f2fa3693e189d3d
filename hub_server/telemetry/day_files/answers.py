"""Questions over many days and files, put together from what each has. Mostly for a reader's thread."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from hub_server.telemetry.day_files.day import Day
from hub_server.telemetry.day_files.index import Index, NewestRow
from hub_server.telemetry.day_files.layout import DAY_MS, HOUR_MS, Period, slot_ms
from hub_server.telemetry.day_files.mirror import SeriesName
from hub_server.telemetry.day_files.reading import Reading, Wanted
from hub_server.telemetry.day_files.samples import chosen, joined, last_before, numbers_of
from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.packing import BadChunk
from hub_server.telemetry.port import Columns, RollupColumns, StoredSample
from hub_server.telemetry.rollups import NOTHING, between, decoded_text, in_order, rolled_columns, text_in
from protocol.frames import MetricValue

log = structlog.get_logger(component="telemetry")

_decode_data: Final = msgspec.json.Decoder(dict[str, MetricValue]).decode


def raw_of(
    reading: Reading, days: Iterable[Day], name: SeriesName, metrics: Sequence[str], from_ms: int, to_ms: int
) -> Columns:
    touched = [day for day in days if day.from_ms < to_ms and day.from_ms + DAY_MS > from_ms]
    blocks = [
        reading.samples(day, name, metrics, from_ms, to_ms) for day in sorted(touched, key=lambda day: day.number)
    ]
    return numbers_of(joined(blocks), metrics, from_ms, to_ms)


class RollupRow(NamedTuple):
    """A row of rollups, and the spans of it that count."""

    agent_id: str
    body: bytes
    spans: Sequence[tuple[int, int]]


class FoundRollups(NamedTuple):
    """What is stored of some series: buckets of hours that are not closed, rolled up, and rows as they are."""

    fresh: Mapping[str, Sequence[RollupColumns]]
    rows: Sequence[RollupRow]


def find_rollups(
    reading: Reading,
    days: Iterable[Day],
    files: Callable[[], Iterable[Period]],
    wanted: Wanted,
    span: range,
    resolution: Resolution,
) -> FoundRollups:
    """`span`: of whole hours. `files` is asked after the days, so that an hour that is closed meanwhile is not missed,
    nor the first one of a file.

    In a reader's thread.
    """
    fresh: defaultdict[str, list[RollupColumns]] = defaultdict(list)
    hours_of: defaultdict[str, set[int]] = defaultdict(set)
    for day in days:
        if day.is_settled or day.from_ms >= span.stop or day.from_ms + DAY_MS <= span.start:
            continue
        for agent_id, hours in reading.open_hours(day, wanted, span).items():
            for hour_ms, block in hours.items():
                hours_of[agent_id].add(hour_ms)
                numbers = chosen(block, wanted.metrics)
                fresh[agent_id].append(rolled_columns(numbers.timestamps, numbers.columns, BUCKET_MS[resolution]))
    return FoundRollups(fresh, [*_rows_in(reading, files(), wanted, span, hours_of)])


def rollups_of(
    found: FoundRollups, metrics: Sequence[str], from_ms: int, to_ms: int, bytes_max: int = sys.maxsize
) -> dict[str, RollupColumns]:
    """Return, by agent, the buckets that begin in the span. For any thread.

    Raises TooLong when more than `bytes_max` of text would have to be unpacked.
    """
    parts: defaultdict[str, list[RollupColumns]] = defaultdict(list)
    for agent_id, fresh in found.fresh.items():
        parts[agent_id] += fresh
    for agent_id, body, spans in found.rows:
        rollup, taken = _unpacked(body, metrics, bytes_max)
        bytes_max -= taken
        parts[agent_id] += (between(rollup, *span) for span in spans)
    return {agent_id: between(in_order(of_agent), from_ms, to_ms) for agent_id, of_agent in parts.items()}


def newest_of_all(reading: Reading, days: Sequence[Day], index: Index, until_ms: int) -> list[StoredSample]:
    """Rows are looked at before the index: what leaves them is in it by then."""
    newest: dict[SeriesName, StoredSample] = {}
    for day in days:
        if day.has_rows and day.from_ms <= until_ms:
            for found in reading.newest_rows(day, until_ms):
                _keep_newer(newest, found)
    for row in index.newest():
        known = newest.get((row.organisation_id, row.agent_id, row.metric_type))
        if known is not None and known.ts_ms >= row.ts_ms:
            continue
        if row.ts_ms <= until_ms:
            before: StoredSample | None = StoredSample(
                row.organisation_id, row.agent_id, row.metric_type, row.ts_ms, _decode_data(row.data)
            )
        else:
            before = _newest_before(reading, days, row, until_ms)
        if before is not None:
            _keep_newer(newest, before)
    return list(newest.values())


def _rows_in(
    reading: Reading, files: Iterable[Period], wanted: Wanted, span: range, fresh: Mapping[str, set[int]]
) -> Iterator[RollupRow]:
    """Yield rows of rollups, without the hours that are fresh."""
    for period in files:
        if period.from_ms >= span.stop or period.to_ms <= span.start:
            continue
        row_ms = slot_ms(period.resolution)
        for agent_id, slot, body in reading.rollups(period, wanted, span):
            row_from_ms = period.from_ms + slot * row_ms
            hours = [hour for hour in fresh.get(agent_id, ()) if row_from_ms <= hour < row_from_ms + row_ms]
            if hours and row_ms == HOUR_MS:
                continue
            edges = [row_from_ms, *(edge for hour in sorted(hours) for edge in (hour, hour + HOUR_MS))]
            yield RollupRow(agent_id, body, [*_pairs([*edges, row_from_ms + row_ms])])


def _unpacked(body: bytes, metrics: Sequence[str], bytes_max: int) -> tuple[RollupColumns, int]:
    """Return the buckets of a row, none of a damaged one, and how long its text is. Raises TooLong."""
    try:
        text = text_in(body, bytes_max)
        return decoded_text(text, metrics), len(text)
    except BadChunk as error:
        log.error("rollups damaged; left out", error=str(error))
        return NOTHING, 0


def _pairs(edges: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(edges[::2], edges[1::2], strict=True)


def _newest_before(reading: Reading, days: Sequence[Day], row: NewestRow, until_ms: int) -> StoredSample | None:
    """Look through the days backwards: the newest sample that is packed is ahead of the time that is asked for."""
    name = (row.organisation_id, row.agent_id, row.metric_type)
    for day in sorted(days, key=lambda day: -day.number):
        if day.from_ms <= until_ms:
            block = reading.samples(day, name, None, day.from_ms, until_ms + 1)
            found = last_before(block, until_ms + 1)
            if found is not None:
                return StoredSample(*name, *found)
    return None


def _keep_newer(newest: dict[SeriesName, StoredSample], found: StoredSample) -> None:
    name = (found.organisation_id, found.agent_id, found.metric_type)
    known = newest.get(name)
    if known is None or found.ts_ms > known.ts_ms:
        newest[name] = found
