"""The recorder on the real stores: what it acknowledged is there once, also after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Subscription
from hub_server.storage.engine import Database
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.partitions.metric_store import Partitions
from hub_server.telemetry.port import MetricStore
from hub_server.telemetry.worker import Packer
from protocol.enumerations import Lane
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import DAY_MS, NOW_MS, ORGANISATION, Process, acks, frame_of, sample


@pytest.fixture
async def opened(database: Database, tmp_path: Path) -> AsyncIterator[Callable[[], MetricStore]]:
    """Makes stores on the same disk, as hubs that start one after the other do."""
    made: list[MetricStore] = []

    def make() -> MetricStore:
        made.append(DayFiles(folder=tmp_path / "metrics") if database.is_sqlite else Partitions(database))
        return made[-1]

    yield make
    for store in made:
        await store.close()


async def test_what_was_acknowledged_is_there_once_after_restarts_and_packing(
    opened: Callable[[], MetricStore], bus: InProcessBus, clock: FakeClock, deliveries: Subscription
) -> None:
    """Two days, two lanes, and frames that come again and again while hubs start and pack."""
    yesterday = [sample(seq, ts=NOW_MS - DAY_MS + seq) for seq in range(1, 6)]
    today = [sample(seq, ts=NOW_MS - 1000 + seq) for seq in range(1, 6)]
    for first in (0, 2, 1):
        store = opened()
        await store.open()
        hub = Process(store, bus, clock)
        await hub.telemetry.load()
        frames = [frame_of(*yesterday[first:], lane=Lane.BACKFILL), frame_of(*today[first:]), frame_of(*today[:4])]
        await hub.record("a1", *frames)
        told = {ack.lane: ack.ranges for ack in await acks(deliveries)}
        assert told == {Lane.BACKFILL: [(first + 1, 5)], Lane.LIVE: [(1, 5)]}
        await Packer(clock=clock, store=store).pack()
        await store.close()
    store = opened()
    await store.open()
    hub = Process(store, bus, clock)
    await hub.telemetry.load()
    columns = await store.raw(ORGANISATION, "a1", "system", ["cpu_percent"], 0, NOW_MS + 1)
    assert list(columns.timestamps) == [each.ts for each in yesterday + today]
    acknowledged = {stream: ack.ranges for stream, ack in hub.telemetry.acknowledged("a1").items()}
    assert acknowledged == {"live": [(1, 5)], "backfill": [(1, 5)]}
    assert hub.telemetry.newest("a1")["system"].ts_ms == today[-1].ts
