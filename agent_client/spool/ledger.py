"""The tables of the spool: entries by stream and sequence, the streams' counters, and gaps that are still to be said.

Everything that writes is called inside a transaction; nothing here decides what is to be kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from agent_client.spool.database import Database, Row
from agent_client.spool.gaps import Gap, merged, runs_of
from protocol.reports import GAP

Stream = Literal["live", "backfill", "events"]
STREAMS: Final[tuple[Stream, ...]] = ("live", "backfill", "events")
LANES: Final[tuple[Stream, ...]] = ("live", "backfill")
_EPOCH_BITS: Final = 52
_OWNER: Final = "owner"
_GAPS: Final = "gaps"

_gaps_decoder: Final = msgspec.json.Decoder(list[Gap])
_said_decoder: Final = msgspec.json.Decoder(Gap)


class Entry(NamedTuple):
    seq: int
    ts: int
    kind: str
    body: bytes


class Ledger:
    def __init__(self, database: Database, owner: str) -> None:
        """Make ready what is there. What another `owner` left is emptied, and new epochs begin."""
        self._database = database
        with database.transaction():
            if database.meta(_OWNER) != owner:
                for table in ("entries", "streams", "jobs", "meta"):
                    database.execute(f"DELETE FROM {table}")  # noqa: S608  the names are constants
                database.set_meta(_OWNER, owner)
            for stream in STREAMS:
                database.execute("INSERT OR IGNORE INTO streams VALUES (?, ?, 0, 0)", (stream, _new_epoch()))

    def epochs(self) -> dict[Stream, int]:
        return {stream: self._column(stream, "epoch") for stream in STREAMS}

    def newest(self, stream: Stream) -> int:
        return self._column(stream, "newest")

    def dropped(self, stream: Stream) -> int:
        return self._column(stream, "dropped")

    def oldest(self, stream: Stream) -> int | None:
        rows = self._database.rows("SELECT seq FROM entries WHERE stream = ? ORDER BY seq LIMIT 1", (stream,))
        return _int(rows[0][0]) if rows else None

    def counts(self) -> dict[Stream, int]:
        """Return how many entries each stream holds. Reads all of them."""
        query = "SELECT COUNT(*) FROM entries WHERE stream = ?"
        return {stream: self._database.number(query, (stream,)) for stream in STREAMS}

    def entries(self, stream: Stream, after: int, limit: int) -> list[Entry]:
        query = "SELECT seq, ts, kind, body FROM entries WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [_entry(row) for row in self._database.rows(query, (stream, after, limit))]

    def holds(self, stream: Stream, seq: int) -> bool:
        return bool(self._database.rows("SELECT 1 FROM entries WHERE stream = ? AND seq = ?", (stream, seq)))

    def sequences(self, stream: Stream) -> list[int]:
        query = "SELECT seq FROM entries WHERE stream = ? ORDER BY seq"
        return [_int(row[0]) for row in self._database.each(query, (stream,))]

    def add(self, stream: Stream, rows: Sequence[tuple[int, str, bytes]]) -> int:
        """Append (ts, kind, body) each. Returns the last sequence given."""
        first = self.skip(stream, len(rows)) - len(rows) + 1
        numbered = ((stream, first + index, *row) for index, row in enumerate(rows))
        self._database.execute_many("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", numbered)
        return first + len(rows) - 1

    def skip(self, stream: Stream, count: int) -> int:
        """Use up `count` sequences. Returns the last of them."""
        self._database.execute("UPDATE streams SET newest = newest + ? WHERE name = ?", (count, stream))
        return self.newest(stream)

    def delete(self, stream: Stream, ranges: Iterable[Sequence[int]]) -> int:
        """Delete what the hub holds. Returns how many."""
        statement = "DELETE FROM entries WHERE stream = ? AND seq BETWEEN ? AND ?"
        return sum(self._database.execute(statement, (stream, first, last)) for first, last in ranges)

    def drop_oldest(self, stream: Stream, count: int, cause: str) -> int:
        """Drop the first `count` entries and keep account of them. Returns how many there were."""
        query = "SELECT seq, ts, kind, body FROM entries WHERE stream = ? ORDER BY seq LIMIT ?"
        found = [_entry(row) for row in self._database.rows(query, (stream, count))]
        if not found:
            return 0
        self._database.execute("DELETE FROM entries WHERE stream = ? AND seq <= ?", (stream, found[-1].seq))
        unsaid = [_said_decoder.decode(entry.body) for entry in found if stream == "events" and entry.kind == GAP]
        self.miss(runs_of(stream, self._column(stream, "epoch"), cause, ((entry.seq, entry.ts) for entry in found)))
        self._owe(unsaid)
        return len(found)

    def drop_older(self, stream: Stream, horizon_ms: int) -> int:
        """Drop the entries taken before `horizon_ms` and keep account of them. Returns how many."""
        query = "SELECT seq, ts FROM entries WHERE stream = ? AND ts < ? ORDER BY seq"
        old = ((_int(seq), _int(ts)) for seq, ts in self._database.each(query, (stream, horizon_ms)))
        gaps = runs_of(stream, self._column(stream, "epoch"), "age", old)
        if gaps:
            self._database.execute("DELETE FROM entries WHERE stream = ? AND ts < ?", (stream, horizon_ms))
            self.miss(gaps)
        return sum(gap.dropped for gap in gaps)

    def miss(self, gaps: Sequence[Gap]) -> None:
        """Count what is lost, and owe the hub word of it."""
        for gap in gaps:
            self._database.execute("UPDATE streams SET dropped = dropped + ? WHERE name = ?", (gap.dropped, gap.stream))
        self._owe(gaps)

    def owed(self) -> list[Gap]:
        """Return the gaps that the hub was not told of yet."""
        return _gaps_decoder.decode(self._database.meta(_GAPS) or "[]")

    def pay(self, said: int) -> None:
        """Forget the first `said` of what is owed."""
        self._save_owed(self.owed()[said:])

    def shift(self, first_seq: Mapping[Stream, int], by_ms: int) -> None:
        """Move the times of entries from `first_seq` of each stream on."""
        statement = "UPDATE entries SET ts = MAX(ts + ?, 0) WHERE stream = ? AND seq >= ?"
        for stream, first in first_seq.items():
            self._database.execute(statement, (by_ms, stream, first))

    def renew_epoch(self, stream: Stream) -> int:
        epoch = _new_epoch()
        self._database.execute("UPDATE streams SET epoch = ? WHERE name = ?", (epoch, stream))
        return epoch

    def _owe(self, gaps: Sequence[Gap]) -> None:
        if gaps:
            self._save_owed(merged(self.owed(), gaps))

    def _save_owed(self, gaps: Sequence[Gap]) -> None:
        self._database.set_meta(_GAPS, msgspec.json.encode(gaps).decode())

    def _column(self, stream: Stream, name: Literal["epoch", "newest", "dropped"]) -> int:
        return self._database.number(f"SELECT {name} FROM streams WHERE name = ?", (stream,))  # noqa: S608


def _new_epoch() -> int:
    return secrets.randbits(_EPOCH_BITS) + 1


def _entry(row: Row) -> Entry:
    seq, ts, kind, body = row
    assert isinstance(body, bytes)
    return Entry(_int(seq), _int(ts), str(kind), body)


def _int(value: str | float | bytes | None) -> int:
    return int(value or 0)
