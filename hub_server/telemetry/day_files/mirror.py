"""What the writer of a day's file keeps in memory: its series, streams and shapes, and which hot rows a series has.

Changed only after a commit, in the writer's thread. Others read it: looking up one key is atomic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from hub_server.telemetry.day_files.hot_rows import HotRows
from hub_server.telemetry.day_files.samples import INLINE_SHAPE, Names, encode_values
from hub_server.telemetry.model import StreamKey
from hub_server.telemetry.port import NewSample

SHAPES_MAX: Final = 512
"""More lists of names than this are not kept in memory: their rows carry the names."""

SeriesName = tuple[str, str, str]
"""Organisation, agent, metric type."""


class Batch(Struct):
    """Rows to be written, and what is new to the file. `rows` has seven values a row, one after the other."""

    first_id: int
    rows: list[Any]
    series_of_rows: list[int]
    series: dict[SeriesName, int]
    streams: dict[StreamKey, int]
    organisations: dict[StreamKey, str]
    shapes: dict[Names, int]
    touched: set[StreamKey]
    oldest_ms: int


class Mirror:
    def __init__(self) -> None:
        self.series: Final[dict[SeriesName, int]] = {}
        self.streams: Final[dict[StreamKey, int]] = {}
        self.shapes: Final[dict[Names, int]] = {}
        self.names: Final[dict[int, Names]] = {}
        self.hot: Final = HotRows()
        self.touched: set[StreamKey] = set()
        """Streams whose ranges in the index lack some of the rows here."""
        self.next_row = 1
        self.next_series = 1
        self.next_stream = 1
        self.next_shape = INLINE_SHAPE + 1
        self.oldest_ms: int | None = None
        """The time of the oldest row since packing last began."""

    @property
    def unpacked(self) -> int:
        return self.hot.count

    def staged(self, samples: Iterable[NewSample]) -> Batch:
        """Return the rows of `samples`; nothing here is changed."""
        batch = Batch(self.next_row, [], [], {}, {}, {}, {}, set(), 1 << 62)
        row, rows, series_of_rows = self.next_row, batch.rows, batch.series_of_rows
        known_series, known_shapes = self.series, self.shapes
        last_key: StreamKey | None = None
        stream = 0
        agent_id = ""
        for sample in samples:
            if sample.key is not last_key:
                last_key = sample.key
                agent_id = last_key.agent_id
                stream = self.streams.get(last_key) or self._new_stream(batch, sample)
                batch.touched.add(last_key)
            name = (sample.organisation_id, agent_id, sample.metric_type)
            series = known_series.get(name) or self._new_series(batch, name)
            data = sample.data
            names = tuple(data)
            shape = known_shapes.get(names) or self._new_shape(batch, names)
            text = encode_values([*data.values()] if shape else data).decode()
            rows += (row, stream, sample.seq, series, sample.ts_ms, shape, text)
            series_of_rows.append(series)
            if sample.ts_ms < batch.oldest_ms:
                batch.oldest_ms = sample.ts_ms
            row += 1
        return batch

    def accept(self, batch: Batch) -> None:
        """Take over what was committed."""
        self.series.update(batch.series)
        self.streams.update(batch.streams)
        self.shapes.update(batch.shapes)
        self.names.update({shape: names for names, shape in batch.shapes.items()})
        self.next_series += len(batch.series)
        self.next_stream += len(batch.streams)
        self.next_shape += len(batch.shapes)
        self.touched |= batch.touched
        self.hot.add(batch.first_id, batch.series_of_rows)
        self.next_row += len(batch.series_of_rows)
        if self.oldest_ms is None or batch.oldest_ms < self.oldest_ms:
            self.oldest_ms = batch.oldest_ms

    def number_after(self, earlier: Mirror) -> None:
        """Give no number again that stood for something else: a round may be at work with it."""
        self.next_row = max(self.next_row, earlier.next_row)
        self.next_series = max(self.next_series, earlier.next_series)
        self.next_stream = max(self.next_stream, earlier.next_stream)

    def rows_of(self, name: SeriesName) -> Sequence[int]:
        """Return the ids of the hot rows of a series. Take them before the snapshot that is read with them."""
        return self.hot.of(self.series.get(name, 0))

    def packed(self, series_ids: Iterable[int], last_row: int) -> None:
        """Forget the rows of these series up to `last_row`."""
        for series in series_ids:
            self.hot.forget(series, last_row)

    def forget(self, names: Sequence[SeriesName], keys: Sequence[StreamKey]) -> None:
        """Forget series and streams."""
        for name in names:
            self.hot.forget(self.series.pop(name, 0))
        for key in keys:
            self.streams.pop(key, None)
            self.touched.discard(key)

    def _new_stream(self, batch: Batch, sample: NewSample) -> int:
        batch.organisations[sample.key] = sample.organisation_id
        return batch.streams.setdefault(sample.key, self.next_stream + len(batch.streams))

    def _new_series(self, batch: Batch, name: SeriesName) -> int:
        return batch.series.setdefault(name, self.next_series + len(batch.series))

    def _new_shape(self, batch: Batch, names: Names) -> int:
        if self.next_shape + len(batch.shapes) > SHAPES_MAX and names not in batch.shapes:
            return INLINE_SHAPE
        return batch.shapes.setdefault(names, self.next_shape + len(batch.shapes))


def restored(series: Mapping[SeriesName, int], streams: Mapping[StreamKey, int], shapes: Mapping[Names, int]) -> Mirror:
    """Return the mirror of a file with these, and no rows yet."""
    mirror = Mirror()
    mirror.series.update(series)
    mirror.streams.update(streams)
    mirror.shapes.update(shapes)
    mirror.names.update({shape: names for names, shape in shapes.items()})
    mirror.next_series = max(series.values(), default=0) + 1
    mirror.next_stream = max(streams.values(), default=0) + 1
    mirror.next_shape = max(shapes.values(), default=INLINE_SHAPE) + 1
    return mirror
