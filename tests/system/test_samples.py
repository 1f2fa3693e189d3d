"""The comparison that the kills rest on finds what is lost and what is there twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import StoredRanges, StreamKey
from hub_server.telemetry.port import NewSample
from protocol.ranges import SequenceRanges
from tests.system.samples import Comparison, compared, comparison, spooled_in, stored_in

AGENT = "a"
KEY = StreamKey(AGENT, "live", 5)
NOON_MS = 1_763_812_800_000


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Ten samples taken, the last two not acknowledged yet, the third and fourth lost for want of room."""
    path = tmp_path / "spool.db"
    gap = {"stream": "live", "epoch": 5, "cause": "bytes", "dropped": 2, "first_seq": 3, "last_seq": 4}
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE streams (name, epoch, newest)")
        database.execute("CREATE TABLE entries (stream, seq, kind, body)")
        database.executemany("INSERT INTO streams VALUES (?, 5, ?)", [("live", 10), ("backfill", 0), ("events", 3)])
        database.executemany("INSERT INTO entries VALUES ('live', ?, 'system', '')", [(9,), (10,)])
        database.execute("INSERT INTO entries VALUES ('events', 3, 'gap', ?)", (json.dumps(gap),))
    return path


async def hub_with(folder: Path, stored: list[int]) -> Path:
    """Return the data folder of a hub that has these sequences."""
    store = DayFiles(folder=folder / "metrics")
    await store.open()
    ranges = SequenceRanges()
    for sequence in stored:
        ranges.add(sequence)
    samples = [NewSample("o", KEY, sequence, "system", NOON_MS + sequence, {"up": 1}) for sequence in stored]
    await store.add(samples, [StoredRanges("o", KEY, ranges)])
    await store.close()
    with closing(sqlite3.connect(folder / "hub.db")) as database, database:
        database.execute("CREATE TABLE agent_reports (agent_id, kind, data)")
    return folder


@pytest.mark.parametrize(
    ("stored", "dropped", "lost"),
    [
        ([1, 2, 5, 6, 7, 8], 2, 0),
        ([1, 2, 5, 6, 7, 8, 9], 2, 0),  # the ninth is stored, its acknowledgement on the way
        ([1, 2, 3, 4, 5, 6, 7, 8], 0, 0),
        ([1, 2, 5, 7, 8], 2, 1),
        ([], 2, 6),
    ],
    ids=["exact", "not acknowledged yet", "came all the same", "one lost", "nothing"],
)
async def test_what_is_lost_is_counted_and_gaps_are_not(
    tmp_path: Path, spool: Path, stored: list[int], dropped: int, lost: int
) -> None:
    found = await compared(spool, await hub_with(tmp_path, stored), AGENT)
    assert found == Comparison(10, 2, dropped, len(stored), lost, 0)
    assert found.is_exact == (not lost)


async def test_what_is_there_twice_or_only_said_to_be_is_counted(tmp_path: Path, spool: Path) -> None:
    data_dir = await hub_with(tmp_path, [1, 2, 5, 6, 7, 8])
    exact = (await stored_in(data_dir, [AGENT]))[AGENT]
    (day,) = (data_dir / "metrics/raw").glob("*.db")
    with closing(sqlite3.connect(day)) as database, database:
        again = database.execute("SELECT stream, seq, series, ts, shape, data FROM hot WHERE seq = 1").fetchone()
        database.execute("INSERT INTO hot (stream, seq, series, ts, shape, data) VALUES (?, ?, ?, ?, ?, ?)", again)
    twice = comparison(spooled_in(spool), (await stored_in(data_dir, [AGENT]))[AGENT])
    assert (twice.surplus, twice.is_exact) == (2, False)
    assert comparison(spooled_in(spool), exact).is_exact
