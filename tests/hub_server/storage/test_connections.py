"""Which connection a reader gets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import text

from hub_server.storage.engine import EVERY_ORGANISATION, Database

AT_ONCE = 4


async def test_readers_who_come_one_after_the_other_share_one_connection(tmp_path: Path) -> None:
    """Each connection keeps the memory of its largest answer: a list of the whole fleet every minute must not grow all
    of them in turn.
    """
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'hub.db'}")
    together = asyncio.Barrier(AT_ONCE)

    async def connection_of_a_reader(at_once: bool) -> int:
        async with database.read(EVERY_ORGANISATION) as connection:
            await connection.execute(text("select 1"))
            if at_once:
                await together.wait()
            return id((await connection.get_raw_connection()).driver_connection)

    try:
        async with asyncio.timeout(20):
            opened = await asyncio.gather(*(connection_of_a_reader(at_once=True) for _ in range(AT_ONCE)))
            used = [await connection_of_a_reader(at_once=False) for _ in range(2 * AT_ONCE)]
    finally:
        await database.close()
    assert len({*opened}) == AT_ONCE
    assert len({*used}) == 1
