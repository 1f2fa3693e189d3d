"""Samples of version 0.1 are where this version looks for them: all of them, and each once, whatever is killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.migrate import migrate
from hub_server.storage.upgrade import with_alembic
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import StreamKey
from hub_server.telemetry.partitions.metric_store import Partitions
from hub_server.telemetry.port import MetricStore
from tests.hub_server.telemetry.contract.builders import DAY_MS, MIDNIGHT_MS, Shelf

TIMES = [MIDNIGHT_MS - 3 * DAY_MS + 3_300_000 * step for step in range(90)]
SAMPLE = text(
    "insert into agent_metrics (organisation_id, agent_id, metric_type, ts_ms, data)"
    " values (:organisation, :agent, 'system', :ts_ms, :data)"
)
RANGES = text(
    "insert into received_ranges (organisation_id, agent_id, stream, epoch, ranges, updated_at_ms)"
    " values ('o1', 'a1', :stream, 7, '[[1, 90]]', 1)"
)
LIVE = StreamKey("a1", "live", 7)


@pytest.fixture
async def of_before(bare: Database) -> Database:
    """A database as version 0.1 left it: 90 samples of one agent over some days, one of another organisation's."""
    await with_alembic(bare, command.upgrade, "0003")
    async with bare.write(EVERY_ORGANISATION) as connection:
        rows = [
            {"organisation": "o1", "agent": "a1", "ts_ms": at, "data": f'{{"cpu_percent":{seq}.0,"name":"é"}}'}
            for seq, at in enumerate(TIMES)
        ]
        other = {"organisation": "o2", "agent": "b1", "ts_ms": TIMES[0], "data": '{"cpu_percent":1.5}'}
        await connection.execute(SAMPLE, [*rows, other])
        await connection.execute(RANGES, [{"stream": "live"}, {"stream": "events"}])
    return bare


@pytest.fixture
async def upgraded(of_before: Database, tmp_path: Path) -> AsyncIterator[Shelf]:
    await migrate(of_before)
    async with store_on(of_before, tmp_path).opened() as shelf:
        yield shelf


def store_on(database: Database, folder: Path) -> Shelf:
    def make() -> MetricStore:
        if database.is_sqlite:
            return DayFiles(folder=folder / "metrics", database=database)
        return Partitions(database, round_ms=0)

    return Shelf(make)


async def hold_everything(shelf: Shelf) -> None:
    assert await shelf.times() == TIMES
    assert await shelf.values() == [float(seq) for seq in range(90)]
    assert list((await shelf.raw(agent="b1", organisation="o2")).values["cpu_percent"]) == [1.5]
    assert (await shelf.newest())["a1", "system"] == (TIMES[-1], {"cpu_percent": 89.0, "name": "é"})
    assert (await shelf.ranges())[LIVE] == [(1, 90)]


async def test_samples_and_ranges_are_where_this_version_looks(upgraded: Shelf, bare: Database) -> None:
    async for _ in upgraded.fates():
        await hold_everything(upgraded)
    await with_alembic(bare, command.check)
    async with bare.read(EVERY_ORGANISATION) as connection:
        events = text("select organisation_id, agent_id from received_ranges where stream = 'events'")
        assert [tuple(row) for row in await connection.execute(events)] == [("o1", "a1")]


async def test_samples_of_times_that_no_calendar_has_keep_no_hub_from_upgrading(
    of_before: Database, tmp_path: Path
) -> None:
    async with of_before.write(EVERY_ORGANISATION) as connection:
        for at_ms in (253_402_300_800_000, 2**53):
            row = {"organisation": "o1", "agent": "a1", "ts_ms": at_ms, "data": '{"cpu_percent":1.0}'}
            await connection.execute(SAMPLE, row)
    await migrate(of_before)
    async with store_on(of_before, tmp_path).opened() as shelf:
        await hold_everything(shelf)


async def test_a_new_database_has_nothing_to_take_over(bare: Database, tmp_path: Path) -> None:
    await migrate(bare)
    async with bare.read(EVERY_ORGANISATION) as connection:
        with pytest.raises(DBAPIError, match="agent_metrics"):
            await connection.execute(text("select 1 from agent_metrics"))
    async with store_on(bare, tmp_path).opened() as shelf:
        assert (await shelf.newest(), await shelf.ranges()) == ({}, {})


@pytest.mark.parametrize("bare_url", ["postgresql"], indirect=True)
async def test_a_hub_that_dies_while_postgresql_moves_them_loses_none(of_before: Database, tmp_path: Path) -> None:
    async with asyncio.timeout(60), of_before.read(EVERY_ORGANISATION) as reader:
        await reader.execute(text("select 1 from agent_metrics limit 1"))  # what moves them ends with dropping this
        upgrade = asyncio.create_task(migrate(of_before))
        victim = text("select pg_terminate_backend(pid) from pg_locks where not granted")
        while not (await reader.execute(victim)).all():
            pass
        with pytest.raises(DBAPIError):
            await upgrade
    async with of_before.read(EVERY_ORGANISATION) as connection:
        assert await connection.scalar(text("select count(*) from agent_metrics")) == 91
        assert await connection.scalar(text("select version_num from alembic_version")) == "0003"
    await migrate(of_before)
    async with store_on(of_before, tmp_path).opened() as shelf:
        await hold_everything(shelf)


@pytest.mark.parametrize("bare_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("words", "count"), [("UPDATE alembic_version", 1), ("DELETE FROM agent_metrics", 3)])
async def test_a_hub_that_is_killed_while_files_take_them_over_loses_none(
    of_before: Database, tmp_path: Path, words: str, count: int
) -> None:
    arguments = (str(of_before.engine.url), str(tmp_path / "metrics"), words, str(count))
    async with asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hub_server.storage.mortal_upgrade", *arguments
        )
        assert await process.wait() == -9
    await migrate(of_before)
    async with store_on(of_before, tmp_path).opened() as shelf:
        await hold_everything(shelf)
