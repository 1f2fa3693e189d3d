"""Tables of days and months come and go while several hubs use them, and whatever fails is said and harms nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry.model import Resolution, StreamKey
from hub_server.telemetry.partitions import catalogue, packer
from hub_server.telemetry.partitions.catalogue import Catalogue
from hub_server.telemetry.partitions.folding import Piece, Place, Taken, folded
from hub_server.telemetry.partitions.metric_store import Partitions
from hub_server.telemetry.partitions.packer import PACKING_LOCK
from hub_server.telemetry.partitions.periods import PARENTS, partition_named, partition_of
from hub_server.telemetry.port import StoreFailed
from tests.hub_server.telemetry.contract.builders import (
    DAY_MS,
    HOUR_MS,
    LATER_MS,
    MIDNIGHT_MS,
    NOON_MS,
    Shelf,
    sample,
)

LIVE = StreamKey("a1", "live", 1)


async def names(database: Database) -> set[str]:
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = await connection.execute(text("select inhrelid::regclass::text from pg_inherits"))
        return {name for name in rows.scalars() if partition_named(name) is not None}


async def test_hubs_that_race_make_each_table_once(shelf: Shelf, database: Database) -> None:
    wanted = [partition_of(parent, NOON_MS + day * DAY_MS) for parent in PARENTS for day in range(3)]
    async with asyncio.timeout(30), asyncio.TaskGroup() as hubs:
        for _ in range(6):
            hubs.create_task(Catalogue(database).ensure(wanted))
    assert await names(database) == {partition.name for partition in wanted}


async def test_the_tables_of_tomorrow_are_there_before_midnight(shelf: Shelf, database: Database) -> None:
    await shelf.store.pack(NOON_MS)
    assert {partition_of(parent, NOON_MS + day * DAY_MS).name for parent in PARENTS for day in (0, 1)} == await names(
        database
    )


async def test_a_day_that_another_hub_dropped_is_made_again(shelf: Shelf, database: Database) -> None:
    other = Partitions(database)
    await other.open()
    await shelf.add(sample(1))
    await other.drop_before(Resolution.RAW, LATER_MS)
    await shelf.add(sample(2))
    assert await shelf.values() == [2.0]
    assert await shelf.ranges() == {LIVE: [(1, 2)]}


async def test_what_a_retention_that_died_left_is_cleared_away(shelf: Shelf, database: Database) -> None:
    await shelf.add(sample(1), sample(2, NOON_MS - DAY_MS))
    async with database.write(EVERY_ORGANISATION) as connection:
        for day_ms in (NOON_MS, NOON_MS - DAY_MS):
            name = partition_of("metric_samples", day_ms).name
            await connection.execute(text(f"alter table metric_samples detach partition {name}"))
    await shelf.reopen()
    await shelf.add(sample(3))
    assert await shelf.values() == [3.0]
    assert await shelf.store.drop_before(Resolution.RAW, MIDNIGHT_MS) == 1
    tables = text("select count(*) from pg_class where relname like 'metric\\_samples\\_2%' and relkind = 'r'")
    async with database.read(EVERY_ORGANISATION) as connection:
        assert await connection.scalar(tables) == 1


async def test_retention_gives_way_to_a_long_question_and_comes_again(
    shelf: Shelf, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "LOCK_TIMEOUT_MS", 50)
    await shelf.add(sample(1))
    async with database.read(EVERY_ORGANISATION) as connection:
        await connection.execute(text("select count(*) from metric_samples"))
        with pytest.raises(StoreFailed) as failure:
            await shelf.store.drop_before(Resolution.RAW, LATER_MS)
        assert failure.value.temporary
        await shelf.add(sample(2))
    assert await shelf.values() == [1.0, 2.0]
    assert await shelf.store.drop_before(Resolution.RAW, LATER_MS) == 1
    assert await shelf.values() == []


async def test_one_hub_packs_at_a_time_and_deleting_waits_for_it(shelf: Shelf, database: Database) -> None:
    await shelf.add(sample(1), sample(1, agent="a2"))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group, database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": PACKING_LOCK})
        assert await shelf.pack() == 0
        deletion = group.create_task(shelf.store.delete_agent("o1", "a1"))
        while not await _waits_for_a_lock(connection):
            pass
        assert not deletion.done()
    assert await shelf.values() == []
    assert await shelf.pack() == 1


async def _waits_for_a_lock(connection: AsyncConnection) -> bool:
    waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
    return bool(await connection.scalar(waiting))


async def test_hubs_that_pack_at_once_pack_each_sample_once(shelf: Shelf, database: Database) -> None:
    await shelf.add(*(sample(seq, NOON_MS + 3000 * seq, agent=f"a{seq % 7}") for seq in range(1400)))
    hubs = [Partitions(database, round_ms=0) for _ in range(3)]

    async def pack(hub: Partitions) -> int:
        total = 0
        for _ in range(30):
            total += await hub.pack(LATER_MS)
        return total

    async with asyncio.timeout(60):
        packed = await asyncio.gather(*(pack(hub) for hub in hubs))
    assert sum(packed) == 1400
    assert sum([len(await shelf.times(f"a{number}")) for number in range(7)]) == 1400


async def test_a_long_table_is_packed_in_pieces(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_server.telemetry.partitions.packer.PIECE_SAMPLES", 10)
    times = {f"a{number}": [NOON_MS + 60_000 * step for step in range(7 + 4 * number)] for number in range(5)}
    for agent, moments in times.items():
        await shelf.add(*(sample(seq, at, agent=agent) for seq, at in enumerate(moments, 1)))
    pieces = []
    while packed := await shelf.store.pack(LATER_MS):
        pieces.append(packed)
    assert sum(pieces) == sum(map(len, times.values()))
    assert max(pieces) == 10
    assert {agent: await shelf.times(agent) for agent in times} == times


async def test_a_piece_has_a_bounded_amount_of_text_and_one_sample_at_least(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.telemetry.partitions.packer.PIECE_BYTES", 100)
    await shelf.add(*(sample(seq, data={"cpu_percent": float(seq), "note": "é" * 12}) for seq in range(1, 8)))
    await shelf.add(*(sample(seq, data={"cpu_percent": 1.0, "note": "x" * 500}, agent="a2") for seq in range(1, 4)))
    pieces = []
    while packed := await shelf.store.pack(LATER_MS):
        pieces.append(packed)
    assert pieces == [2, 2, 2, 2, 1, 1]
    assert (len(await shelf.times()), len(await shelf.times("a2"))) == (7, 3)


async def test_late_samples_of_long_hours_read_few_of_their_chunks_at_once(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(samples: Sequence[Taken], chunks: Mapping[Place, bytes], *rest: Any) -> Piece:
        read.append(len(chunks))
        return folded(samples, chunks, *rest)

    read: list[int] = []
    monkeypatch.setattr(packer, "folded", noted)
    hours = [NOON_MS + number * HOUR_MS for number in range(5)]
    await shelf.add(*(sample(seq, at, {"note": token_hex(500), "cpu_percent": 1.0}) for seq, at in enumerate(hours, 1)))
    await shelf.pack()
    monkeypatch.setattr(packer, "PIECE_BYTES", 1000)
    await shelf.add(*(sample(seq, at + 1, {"cpu_percent": 2.0}) for seq, at in enumerate(hours, 10)))
    await shelf.pack()
    assert read == [0, 2, 2, 1]
    assert await shelf.values() == [1.0, 2.0] * 5
    assert sum(bucket[3] for bucket in (await shelf.gauge(Resolution.HOUR)).values()) == 10


async def test_what_is_not_due_yet_stays_where_it_is(shelf: Shelf) -> None:
    await shelf.add(sample(1, NOON_MS - 1), sample(2, NOON_MS), sample(3, NOON_MS + HOUR_MS))
    assert await shelf.pack(NOON_MS + 14 * 60_000) == 1
    assert shelf.store.figures().oldest_hot_ms == NOON_MS
    assert len(await shelf.times()) == 3


async def test_a_round_begins_every_quarter_of_an_hour(database: Database, shelf: Shelf) -> None:
    store = Partitions(database)
    await store.open()
    assert await store.pack(NOON_MS) == 0
    await shelf.add(sample(1, NOON_MS - HOUR_MS))
    assert await store.pack(NOON_MS + 14 * 60_000) == 0
    assert await store.pack(NOON_MS + 15 * 60_000) == 1


async def test_a_damaged_chunk_harms_no_other_and_packing_goes_on(shelf: Shelf, database: Database) -> None:
    await shelf.add(sample(1), sample(1, agent="a2"))
    await shelf.pack()
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(text("update metric_chunks set body = '\\x01ff' where agent_id = 'a1'"))
    with pytest.raises(StoreFailed) as failure:
        await shelf.values()
    assert not failure.value.temporary
    assert await shelf.values("a2") == [1.0]
    await shelf.add(sample(2), sample(2, agent="a2"))
    assert await shelf.pack() == 2
    assert (await shelf.values(), await shelf.values("a2")) == ([2.0], [1.0, 2.0])


@pytest.mark.parametrize("kind", ["nul \x00", "surrogate \ud800", "x" * 200])
async def test_samples_that_the_database_refuses_leave_nothing(shelf: Shelf, kind: str) -> None:
    with pytest.raises(StoreFailed) as failure:
        await shelf.add(sample(1), sample(2, kind=kind))
    assert not failure.value.temporary
    assert (await shelf.values(), await shelf.ranges()) == ([], {})


@pytest.mark.parametrize("ts_ms", [-1, 2**53, 2**63])
async def test_a_time_of_no_calendar_is_refused(shelf: Shelf, ts_ms: int) -> None:
    with pytest.raises(StoreFailed) as failure:
        await shelf.add(sample(1, ts_ms))
    assert not failure.value.temporary


async def test_a_connection_that_is_lost_is_said_and_the_next_commit_works(shelf: Shelf, database: Database) -> None:
    async with asyncio.timeout(30), database.write(EVERY_ORGANISATION) as blocker:
        await blocker.execute(text("lock table received_ranges in access exclusive mode"))
        committing = asyncio.create_task(shelf.add(sample(1)))
        victim = text("select pg_terminate_backend(pid) from pg_locks where not granted")
        while not (await blocker.execute(victim)).all():
            pass
        with pytest.raises(StoreFailed) as failure:
            await committing
        assert failure.value.temporary
    assert (await shelf.values(), await shelf.ranges()) == ([], {})
    await shelf.add(sample(1))
    assert await shelf.values() == [1.0]


async def test_a_statement_that_takes_too_long_is_given_up(shelf: Shelf, database: Database) -> None:
    hasty = Database(database.engine.url.render_as_string(hide_password=False), command_timeout_seconds=0.2)
    try:
        store = Partitions(hasty)
        async with asyncio.timeout(30), database.write(EVERY_ORGANISATION) as blocker:
            await blocker.execute(text("lock table received_ranges in access exclusive mode"))
            with pytest.raises(StoreFailed) as failure:
                await store.load_ranges()
            assert failure.value.temporary
        assert await store.load_ranges() == []
    finally:
        await hasty.close()
