"""The comparison that the kills rest on finds what is lost and what is there twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.system.samples import Comparison, compared

AGENT = "a"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Ten samples taken, the last two not acknowledged yet."""
    path = tmp_path / "spool.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE streams (name, epoch, newest, dropped)")
        database.execute("CREATE TABLE entries (stream, seq)")
        database.executemany("INSERT INTO streams VALUES (?, 5, ?, 0)", [("live", 10), ("backfill", 0), ("events", 3)])
        database.executemany("INSERT INTO entries VALUES ('live', ?)", [(9,), (10,)])
    return path


def hub_with(path: Path, ranges: list[list[int]], rows: list[int]) -> Path:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE received_ranges (agent_id, stream, epoch, ranges)")
        database.execute("CREATE TABLE agent_metrics (agent_id, metric_type, ts_ms, data)")
        database.execute("INSERT INTO received_ranges VALUES (?, 'live', 5, ?)", (AGENT, json.dumps(ranges)))
        database.executemany("INSERT INTO agent_metrics VALUES (?, 'system', ?, '{}')", [(AGENT, ts) for ts in rows])
    return path


@pytest.mark.parametrize(
    ("ranges", "rows", "lost", "surplus"),
    [
        ([[1, 8]], range(1, 9), 0, 0),
        ([[1, 9]], range(1, 10), 0, 0),  # stored, its acknowledgement on the way
        ([[1, 4], [6, 8]], [1, 2, 3, 4, 6, 7, 8], 1, 0),
        ([[1, 8]], range(1, 8), 1, 0),  # said to be there, and is not
        ([[1, 8]], [*range(1, 9), 8], 0, 2),
        ([], [], 8, 0),
    ],
    ids=["exact", "not acknowledged yet", "gap", "row missing", "row twice", "nothing"],
)
def test_what_is_lost_or_twice_is_counted(
    tmp_path: Path, spool: Path, ranges: list[list[int]], rows: list[int], lost: int, surplus: int
) -> None:
    found = compared(spool, hub_with(tmp_path / "hub.db", ranges, list(rows)), AGENT)
    assert found == Comparison(10, 2, 0, len(list(rows)), lost, surplus)
    assert found.is_exact == (not lost and not surplus)
