"""Agents' spools against the hub's store: is every acknowledged sample there, and none of them twice?"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hub_server.telemetry.day_files.folder import DayFiles
from protocol.ranges import SequenceRanges
from protocol.reports import GAP

LANES: Final = ("live", "backfill")
BUSY_SECONDS: Final = 10.0
TRIES: Final = 3
AFTER_ALL_MS: Final = 2**53

Numbering = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`taken`: samples the agent ever made in the epochs it has. `waiting`: not acknowledged yet. `stored`: rows.

    `dropped`: fell out of the spool, which a gap tells. `lost`: neither waiting nor dropped, yet not at the hub.
    `surplus`: rows at the hub beyond the sequences it has received.
    """

    taken: int
    waiting: int
    dropped: int
    stored: int
    lost: int
    surplus: int

    @property
    def is_exact(self) -> bool:
        return self.lost == 0 and self.surplus == 0

    def __str__(self) -> str:
        gaps = f", {self.dropped} in gaps that were told" if self.dropped else ""
        return (
            f"{self.taken} samples taken, {self.taken - self.waiting - self.dropped} acknowledged, "
            f"{self.stored} stored, {self.lost} lost, {self.surplus} twice{gaps}"
        )


@dataclass(frozen=True, slots=True)
class Spooled:
    """What an agent says: the sequences it need not send any more, by lane and epoch."""

    taken: int
    waiting: int
    done: Mapping[Numbering, SequenceRanges]
    gaps: Mapping[Numbering, SequenceRanges]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the hub has of one agent."""

    rows: int = 0
    twice: int = 0
    ranges: Mapping[Numbering, SequenceRanges] = field(default_factory=dict)
    gaps: Mapping[Numbering, SequenceRanges] = field(default_factory=dict)


async def compared(spool: Path, data_dir: Path, agent_id: str) -> Comparison:
    """Compare while both processes run."""
    (found,) = (await compared_all({agent_id: spool}, data_dir)).values()
    return found


async def compared_all(spools: Mapping[str, Path], data_dir: Path) -> dict[str, Comparison]:
    """Compare many agents. Spools are read first, so that what they lack must be at the hub.

    The hub's files are copied one after the other: when it moves something from one to another meanwhile, it is
    looked at again.
    """
    found: dict[str, Comparison] = {}
    for left in reversed(range(TRIES)):
        spooled = {agent_id: spooled_in(spool) for agent_id, spool in spools.items()}
        stored = await stored_in(data_dir, spools)
        found = {agent_id: comparison(spooled[agent_id], stored[agent_id]) for agent_id in spools}
        if not left or all(each.is_exact for each in found.values()):
            break
        await asyncio.sleep(1)
    return found


def comparison(spooled: Spooled, stored: Stored) -> Comparison:
    lost = dropped = 0
    for numbering, ranges in spooled.done.items():
        held = stored.ranges.get(numbering, SequenceRanges())
        gaps = SequenceRanges([*stored.gaps.get(numbering, ()), *spooled.gaps.get(numbering, ())])
        for first, last in ranges:
            for number in range(first, last + 1):
                dropped += number in gaps and number not in held
                lost += number not in gaps and number not in held
    sequences = sum(ranges.count() for ranges in stored.ranges.values())
    lost += max(0, sequences - stored.rows)
    surplus = max(0, stored.rows - sequences) + stored.twice
    return Comparison(spooled.taken, spooled.waiting, dropped, stored.rows, lost, surplus)


def spooled_in(path: Path) -> Spooled:
    taken = waiting = 0
    done: dict[Numbering, SequenceRanges] = {}
    with closing(_opened(path)) as database:
        for lane, epoch, newest in database.execute("SELECT name, epoch, newest FROM streams"):
            if lane not in LANES:
                continue
            left = [
                row[0] for row in database.execute("SELECT seq FROM entries WHERE stream = ? ORDER BY seq", (lane,))
            ]
            taken, waiting = taken + newest, waiting + len(left)
            done[lane, epoch] = _without(newest, left)
        told = database.execute("SELECT body FROM entries WHERE stream = 'events' AND kind = ?", (GAP,))
        return Spooled(taken, waiting, done, _gaps(body for (body,) in told))


async def stored_in(data_dir: Path, agent_ids: Iterable[str]) -> dict[str, Stored]:
    """Return what the hub of this folder has of each agent."""
    wanted = list(agent_ids)
    with tempfile.TemporaryDirectory(prefix="jtnt-samples-") as copied:
        copy = Path(copied) / "metrics"
        await asyncio.to_thread(_copy, data_dir / "metrics", copy)
        store = DayFiles(folder=copy)
        await store.open()
        try:
            ranges: dict[str, dict[Numbering, SequenceRanges]] = {}
            for each in await store.load_ranges():
                ranges.setdefault(each.key.agent_id, {})[each.key.stream, each.key.epoch] = each.ranges
            series = _series_in(copy)
            times: dict[str, Counter[tuple[str, int]]] = {}
            for organisation_id, agent_id, metric_type in series:
                if agent_id in wanted:
                    found = await store.raw(organisation_id, agent_id, metric_type, (), 0, AFTER_ALL_MS)
                    times.setdefault(agent_id, Counter()).update((metric_type, at) for at in found.timestamps)
        finally:
            await store.close()
    gaps = await asyncio.to_thread(_told_gaps, data_dir / "hub.db")
    return {
        agent_id: Stored(
            rows=times.get(agent_id, Counter()).total(),
            twice=sum(count - 1 for count in times.get(agent_id, Counter()).values()),
            ranges=ranges.get(agent_id, {}),
            gaps=gaps.get(agent_id, {}),
        )
        for agent_id in wanted
    }


def _copy(source: Path, copy: Path) -> None:
    """Copy databases that may be written meanwhile, each as it is at one moment; the index last: it may say more."""
    if not source.exists():
        return
    for path in sorted(source.rglob("*.db"), key=lambda path: path.name == "index.db"):
        target = copy / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(_opened(path)) as database, closing(sqlite3.connect(target)) as written:
            database.backup(written)
    for path in source.rglob("*"):
        if path.is_file() and not path.name.endswith((".db", "-wal", "-shm")):
            shutil.copy2(path, copy / path.relative_to(source))


def _series_in(folder: Path) -> set[tuple[str, str, str]]:
    found: set[tuple[str, str, str]] = set()
    for path in (folder / "raw").glob("*.db"):
        with closing(_opened(path)) as database:
            found.update(database.execute("SELECT organisation_id, agent_id, metric_type FROM series"))
    return found


def _told_gaps(hub: Path) -> dict[str, dict[Numbering, SequenceRanges]]:
    with closing(_opened(hub)) as database:
        told: dict[str, list[str]] = {}
        for agent_id, data in database.execute("SELECT agent_id, data FROM agent_reports WHERE kind = ?", (GAP,)):
            told.setdefault(agent_id, []).append(data)
    return {agent_id: _gaps(bodies) for agent_id, bodies in told.items()}


def _gaps(bodies: Iterable[str | bytes]) -> dict[Numbering, SequenceRanges]:
    found: dict[Numbering, SequenceRanges] = {}
    for gap in map(json.loads, bodies):
        if gap["stream"] in LANES:
            found.setdefault((gap["stream"], gap["epoch"]), SequenceRanges()).add(gap["first_seq"], gap["last_seq"])
    return found


def _without(newest: int, left: list[int]) -> SequenceRanges:
    ranges, first = SequenceRanges(), 1
    for number in [*left, newest + 1]:
        if number > first:
            ranges.add(first, number - 1)
        first = number + 1
    return ranges


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
