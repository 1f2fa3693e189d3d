"""The database: SQLite or PostgreSQL, chosen by URL. The only place that opens one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

SQLITE_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=10000",
    "journal_size_limit=67108864",
)
_WRITES: Final = "jtnt_writes"


class Database:
    """One engine with two ways in: `read` and `write`.

    SQLite has one writer, on a connection of its own that readers cannot use up: `write` queues in this process instead
    of failing with SQLITE_BUSY, and takes the file's write lock at once, so that a transaction that started never has
    to be repeated.
    """

    def __init__(self, url: str) -> None:
        self.is_sqlite: Final = url.startswith("sqlite")
        self.engine: Final = _engine(url, self.is_sqlite)
        self._writing = _engine(url, self.is_sqlite, connections=1) if self.is_sqlite else self.engine
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent snapshot; nothing written through it is kept."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        if not self.is_sqlite:
            async with self.engine.begin() as connection:
                yield connection
            return
        async with self._writer, self._writing.connect() as connection:
            writer = await connection.execution_options(**{_WRITES: True})
            async with writer.begin():
                yield writer

    async def answers(self) -> bool:
        try:
            async with self.read() as connection:
                await connection.execute(text("select 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        await self.engine.dispose()
        await self._writing.dispose()


def _engine(url: str, is_sqlite: bool, connections: int = 8) -> AsyncEngine:
    serialization: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "hide_parameters": True,  # an error's text reaches the logs
    }
    if not is_sqlite:
        return create_async_engine(
            url, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=10, **serialization
        )
    engine = create_async_engine(url, pool_size=connections, max_overflow=0, pool_timeout=10, **serialization)
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the begin event below decides how transactions start
    cursor = connection.cursor()
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
