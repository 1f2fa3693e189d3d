"""The database: SQLite or PostgreSQL, chosen by URL. The only place that opens one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from hub_server.storage.group_commit import GroupCommit
from hub_server.storage.snapshots import READERS, Snapshots
from hub_server.storage.turns import Turns

SQLITE_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=10000",
    "journal_size_limit=67108864",
)
_WRITES: Final = "jtnt_writes"
_HUB_ID: Final = "jtnt_hub_id"
COMMAND_TIMEOUT_SECONDS: Final = 30.0
"""How long PostgreSQL may take for one statement; TimeoutError after it."""
CONNECT_TIMEOUT_SECONDS: Final = 10.0
EVERY_ORGANISATION: Final = "*"
"""The scope of the hub's own work: loading its indexes, storing batches of many agents, finding who somebody is."""

T = TypeVar("T")

_SCOPE: Final = text("select set_config('jtnt.organisation', :scope, true)")


class Database:
    """One engine with four ways in: `read` and `write`, `consult` and `transact` for what is read and written often.

    Each names its scope: the organisation whose rows it may touch, or EVERY_ORGANISATION. PostgreSQL enforces it by
    row-level security, beside the organisation that every statement names itself.

    SQLite has one writer, on a connection of its own that readers cannot use up: `write` queues in this process instead
    of failing with SQLITE_BUSY, and takes the file's write lock at once, so that a transaction that started never has
    to be repeated. Each `write` has a commit of its own; those who wait with `transact` share one.
    """

    def __init__(
        self, url: str, *, hub_id: str = "hub", command_timeout_seconds: float | None = COMMAND_TIMEOUT_SECONDS
    ) -> None:
        """`hub_id`: whose chain of audit entries grows by what is written here.

        `command_timeout_seconds` bounds each statement on PostgreSQL; None for none.
        """
        self.is_sqlite: Final = url.startswith("sqlite")
        self.engine: Final = (
            _sqlite_engine(url, hub_id) if self.is_sqlite else _postgresql_engine(url, hub_id, command_timeout_seconds)
        )
        self._writing = _sqlite_engine(url, hub_id, connections=1) if self.is_sqlite else self.engine
        self._turns = Turns()
        self._groups = (
            GroupCommit(_sqlite_thread_engine(url, hub_id, writes=True), self._turns) if self.is_sqlite else None
        )
        self._snapshots = Snapshots(_sqlite_thread_engine(url, hub_id, connections=READERS)) if self.is_sqlite else None
        self.hub_id: Final = hub_id

    @asynccontextmanager
    async def read(self, organisation_id: str) -> AsyncIterator[AsyncConnection]:
        """A consistent snapshot; nothing written through it is kept."""
        async with self.engine.connect() as connection:
            if not self.is_sqlite:
                await enter_scope(connection, organisation_id)
            yield connection

    async def consult(self, organisation_id: str, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, given a consistent snapshot; nothing that it writes is kept.

        On SQLite it runs as a whole in a thread: `work` touches nothing that belongs to the event loop. There it raises
        Unavailable when too many wait, or when it takes too long.
        """
        if self._snapshots is None:
            async with self.read(organisation_id) as connection:
                return await connection.run_sync(work)
        return await self._snapshots.consult(work)

    @asynccontextmanager
    async def write(self, organisation_id: str) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        if not self.is_sqlite:
            async with self.engine.begin() as connection:
                await enter_scope(connection, organisation_id)
                yield connection
            return
        async with self._turns.taken(), self._writing.connect() as connection:
            writer = await connection.execution_options(**{_WRITES: True})
            async with writer.begin():
                yield writer

    async def transact(self, organisation_id: str, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, run as one transaction: committed when it returns, rolled back when it raises.

        On SQLite it runs as a whole in the thread of the writer, which costs a fraction of as many hops there as there
        are statements: `work` touches nothing that belongs to the event loop. There it may share its commit with others
        that wait, in a savepoint of its own: what it raises undoes it alone, and what stops the commit is raised to all
        of them, whose works are all undone. When the caller is cancelled its work may still be committed.
        """
        if self._groups is None:
            async with self.write(organisation_id) as connection:
                return await connection.run_sync(work)
        return await self._groups.transact(work)

    def without_deadline(self) -> Database:
        """Return another way into the same database, to close after use, whose statements may take any time."""
        url = self.engine.url.render_as_string(hide_password=False)
        return Database(url, hub_id=self.hub_id, command_timeout_seconds=None)

    async def answers(self) -> bool:
        try:
            async with self.read(EVERY_ORGANISATION) as connection:
                await connection.execute(text("select 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        await self.engine.dispose()
        await self._writing.dispose()
        if self._groups is not None:
            await asyncio.to_thread(self._groups.close)
        if self._snapshots is not None:
            await asyncio.to_thread(self._snapshots.close)


def scope_of(organisation_ids: Iterable[str]) -> str:
    """Return the narrowest scope that holds rows of all of them."""
    distinct = set(organisation_ids)
    return distinct.pop() if len(distinct) == 1 else EVERY_ORGANISATION


async def enter_scope(connection: AsyncConnection, organisation_id: str) -> None:
    """Let the transaction that runs on PostgreSQL see this organisation's rows and no others."""
    await connection.execute(_SCOPE, {"scope": organisation_id})


@asynccontextmanager
async def every_organisation(connection: AsyncConnection) -> AsyncIterator[None]:
    """Let the transaction look beyond its own organisation for the length of the block."""
    if connection.dialect.name == "sqlite":
        yield
        return
    scope = await connection.scalar(text("select current_setting('jtnt.organisation')"))
    await enter_scope(connection, EVERY_ORGANISATION)
    yield  # what raises here ends the transaction, and the scope with it
    await enter_scope(connection, scope or "")


def hub_id_of(connection: AsyncConnection | Connection) -> str:
    """Return which hub writes on `connection`."""
    of_driver = connection if isinstance(connection, Connection) else connection.sync_connection
    assert of_driver is not None
    hub_id: str = of_driver.get_execution_options()[_HUB_ID]
    return hub_id


def _postgresql_engine(url: str, hub_id: str, command_timeout_seconds: float | None) -> AsyncEngine:
    deadlines = {"command_timeout": command_timeout_seconds, "timeout": CONNECT_TIMEOUT_SECONDS}
    options = _options(hub_id)
    return create_async_engine(
        url, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=10, connect_args=deadlines, **options
    )


def _sqlite_engine(url: str, hub_id: str, connections: int = 8) -> AsyncEngine:
    """The connection that was used last is used next: each keeps what its largest answer ever took."""
    options = _options(hub_id)
    engine = create_async_engine(
        url, pool_size=connections, max_overflow=0, pool_timeout=10, pool_use_lifo=True, **options
    )
    _with_pragmas(engine.sync_engine)
    return engine


def _sqlite_thread_engine(url: str, hub_id: str, *, connections: int = 1, writes: bool = False) -> Engine:
    """For threads that take turns with its connections. Where it `writes`, every transaction of it does."""
    options = _options(hub_id)
    options["execution_options"] |= {_WRITES: writes}
    address = make_url(url).set(drivername="sqlite")
    any_thread = {"check_same_thread": False}
    return _with_pragmas(
        create_engine(address, pool_size=connections, max_overflow=0, connect_args=any_thread, **options)
    )


def _with_pragmas(engine: Engine) -> Engine:
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _options(hub_id: str) -> dict[str, Any]:
    return {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "hide_parameters": True,  # an error's text reaches the logs
        "execution_options": {_HUB_ID: hub_id},
    }


def _configure_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the begin event below decides how transactions start
    cursor = connection.cursor()
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
