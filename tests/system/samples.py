"""The agent's spool against the hub's tables: is every acknowledged sample there, and none of them twice?"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.ranges import SequenceRanges

LANES: Final = ("live", "backfill")
BUSY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """`taken`: samples the agent ever made. `waiting`: not acknowledged yet. `stored`: rows at the hub.

    `lost`: acknowledged, yet not at the hub. `surplus`: rows at the hub beyond the sequences it has received.
    """

    taken: int
    waiting: int
    dropped: int
    stored: int
    lost: int
    surplus: int

    @property
    def is_exact(self) -> bool:
        return self.lost == 0 and self.surplus == 0 and self.dropped == 0

    def __str__(self) -> str:
        return (
            f"{self.taken} samples taken, {self.taken - self.waiting} acknowledged, {self.stored} stored, "
            f"{self.lost} lost, {self.surplus} twice"
        )


def compared(spool: Path, hub: Path, agent_id: str) -> Comparison:
    """Compare both databases while their processes run: the spool first, so that what it lacks must be at the hub."""
    taken = waiting = dropped = lost = 0
    acknowledged: dict[tuple[str, int], SequenceRanges] = {}
    with closing(_opened(spool)) as spooled:
        for lane, epoch, newest, fell_out in spooled.execute("SELECT name, epoch, newest, dropped FROM streams"):
            if lane not in LANES:
                continue
            left = [row[0] for row in spooled.execute("SELECT seq FROM entries WHERE stream = ? ORDER BY seq", (lane,))]
            taken, waiting, dropped = taken + newest, waiting + len(left), dropped + fell_out
            acknowledged[lane, epoch] = _without(newest, left)
    with closing(_opened(hub)) as stored:
        stored.execute("BEGIN")
        received = {
            (lane, epoch): SequenceRanges(json.loads(ranges))
            for lane, epoch, ranges in stored.execute(
                "SELECT stream, epoch, ranges FROM received_ranges WHERE agent_id = ?", (agent_id,)
            )
            if lane in LANES
        }
        (rows,) = stored.execute("SELECT count(*) FROM agent_metrics WHERE agent_id = ?", (agent_id,)).fetchone()
        (distinct,) = stored.execute(
            "SELECT count(*) FROM (SELECT DISTINCT metric_type, ts_ms, data FROM agent_metrics WHERE agent_id = ?)",
            (agent_id,),
        ).fetchone()
    for key, ranges in acknowledged.items():
        held = received.get(key, SequenceRanges())
        lost += sum(number not in held for first, last in ranges for number in range(first, last + 1))
    sequences = sum(ranges.count() for ranges in received.values())
    lost += max(0, sequences - rows)
    return Comparison(taken, waiting, dropped, rows, lost, max(0, rows - sequences) + rows - distinct)


def _without(newest: int, left: list[int]) -> SequenceRanges:
    ranges, first = SequenceRanges(), 1
    for number in [*left, newest + 1]:
        if number > first:
            ranges.add(first, number - 1)
        first = number + 1
    return ranges


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
