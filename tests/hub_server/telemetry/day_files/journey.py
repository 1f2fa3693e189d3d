"""What a hub does with samples in two days, so that it can be cut off at any moment and gone on with.

As a program it takes a folder and after how many statements of SQLite it is killed; it tells each batch that the store
acknowledged on a line of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from hub_server.storage import sqlite_files
from hub_server.telemetry.day_files import day, index, rollup_files
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import BUCKET_MS, Resolution, StoredRanges, StreamKey
from hub_server.telemetry.port import MetricStore, NewSample, RollupColumns, StoreFailed, added_by_stream
from protocol.ranges import SequenceRanges
from tests.hub_server.telemetry.contract.builders import (
    HOUR_MS,
    LATER_MS,
    MIDNIGHT_MS,
    MINUTE_MS,
    ORGANISATION,
    sample,
)

AGENTS: Final = ("a1",)
KINDS: Final = ("system", "disk./")
GONE: Final = "gone"
_KEYS: Final = {StreamKey(agent, stream, 1) for agent in (*AGENTS, GONE) for stream in ("live", "backfill")}
Step = Sequence[NewSample] | int
"""A batch to be added, or the time at which all that is due is packed."""


def journey() -> list[Step]:
    """Batches on both sides of midnight, late ones, and packing in between; every sample has a time of its own."""
    first = MIDNIGHT_MS - HOUR_MS
    return [
        _batch(1, first),
        _batch(21, first + 20 * MINUTE_MS, agents=(*AGENTS, GONE)),
        first + 40 * MINUTE_MS,
        _batch(31, MIDNIGHT_MS - 5 * MINUTE_MS),
        _batch(51, MIDNIGHT_MS + 10 * MINUTE_MS),
        MIDNIGHT_MS + 20 * MINUTE_MS,
        _batch(41, first + 30 * MINUTE_MS, stream="backfill"),
        MIDNIGHT_MS + 40 * MINUTE_MS,
        LATER_MS,
    ]


def _batch(seq: int, from_ms: int, agents: Sequence[str] = AGENTS, stream: str = "live") -> list[NewSample]:
    return [
        sample(seq + number, from_ms + number * MINUTE_MS + place, agent=agent, kind=KINDS[number % 2], stream=stream)
        for place, agent in enumerate(agents)
        for number in range(10)
    ]


def samples_of(agents: Sequence[str] = AGENTS) -> list[NewSample]:
    return [each for step in journey() if not isinstance(step, int) for each in step if each.key.agent_id in agents]


async def travel(store: MetricStore, acknowledged: Callable[[int], None]) -> int:
    """Go the whole way, as a hub that was started again and tries until the disk takes it.

    Returns how often it did not.
    """
    failures = 0
    received = {stored.key: stored.ranges for stored in await store.load_ranges()}
    steps: list[Callable[[], Awaitable[None]]] = [partial(_take, store, step, received) for step in journey()]
    steps.append(partial(store.delete_agent, ORGANISATION, GONE))
    for number, step in enumerate(steps):
        while not await _succeeds(step):
            failures += 1
            received |= {stored.key: stored.ranges for stored in await store.ranges_of({*received, *_KEYS})}
        acknowledged(number)
    return failures


async def _succeeds(step: Callable[[], Awaitable[None]]) -> bool:
    try:
        await step()
    except StoreFailed as error:
        if not error.temporary:
            raise
        return False
    return True


async def _take(store: MetricStore, step: Step, received: dict[StreamKey, SequenceRanges]) -> None:
    """Do a step; a sample that is received is not stored again."""
    if isinstance(step, int):
        while await store.pack(step):
            pass
        return
    new = [each for each in step if each.seq not in received.get(each.key, ())]
    changed = {key: SequenceRanges([*received.get(key, ()), *added]) for key, added in added_by_stream(new).items()}
    if new:
        await store.add(new, [StoredRanges(ORGANISATION, key, ranges) for key, ranges in changed.items()])
    received |= changed


async def assert_consistent(store: MetricStore, acknowledged: int) -> None:
    """Samples are there once, those of the acknowledged batches for sure; ranges and buckets say the same."""
    times = {(each.key.agent_id, each.metric_type, each.ts_ms): each for each in samples_of()}
    sequences: dict[StreamKey, list[int]] = {}
    for agent in AGENTS:
        for kind in KINDS:
            found = (await store.raw(ORGANISATION, agent, kind, ["cpu_percent"], 0, LATER_MS)).timestamps
            assert len(found) == len({*found})
            for ts_ms in found:
                stored = times[agent, kind, ts_ms]
                sequences.setdefault(stored.key, []).append(stored.seq)
            assert sum((await _rollup(store, agent, kind, Resolution.HOUR)).counts["cpu_percent"]) == len(found)
    ranges = {stored.key: stored.ranges for stored in await store.load_ranges() if stored.key.agent_id != GONE}
    assert ranges == {key: SequenceRanges((seq, seq) for seq in seqs) for key, seqs in sequences.items()}
    for step in journey()[:acknowledged]:
        for each in () if isinstance(step, int) else step:
            assert each.key.agent_id == GONE or each.seq in ranges[each.key]


async def assert_complete(store: MetricStore) -> None:
    """All is there that the journey brings, and nothing of the agent that was deleted."""
    await assert_consistent(store, len(journey()))
    assert {stored.key.agent_id for stored in await store.load_ranges()} == {*AGENTS}
    newest = await store.load_newest(LATER_MS)
    assert {each.agent_id for each in newest} == {*AGENTS}
    for kind in KINDS:
        assert not (await store.raw(ORGANISATION, GONE, kind, ["cpu_percent"], 0, LATER_MS)).timestamps
    for resolution in BUCKET_MS:
        for agent in AGENTS:
            for kind in KINDS:
                sums = (await _rollup(store, agent, kind, resolution)).sums["cpu_percent"]
                values = [each.seq for each in samples_of((agent,)) if each.metric_type == kind]
                assert sum(sums) == sum(values)


async def _rollup(store: MetricStore, agent: str, kind: str, resolution: Resolution) -> RollupColumns:
    found = await store.rollups(ORGANISATION, [agent], kind, ["cpu_percent"], resolution, 0, LATER_MS)
    return found.get(agent, RollupColumns([], {}, {}, {"cpu_percent": []}, {"cpu_percent": []}, {}))


@contextmanager
def traced(seen: Callable[[str], None]) -> Iterator[None]:
    """Tell each statement that changes a file, before it is executed."""

    def open_writer(*arguments: Any) -> sqlite3.Connection:
        connection = sqlite_files.open_writer(*arguments)
        connection.set_trace_callback(seen)
        return connection

    with (
        patch.object(day, "open_writer", open_writer),
        patch.object(index, "open_writer", open_writer),
        patch.object(rollup_files, "open_writer", open_writer),
    ):
        yield


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


async def _main(folder: Path, statements: int) -> None:
    left = statements

    def seen(_statement: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    with traced(seen):
        store = DayFiles(folder=folder)
        await store.open()
        await travel(store, _tell)
        await store.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
