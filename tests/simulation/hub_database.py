"""The hub's database in memory: its real tables and statements on SQLite, its transactions in virtual time.

What is not committed dies with the hub. What is committed is told to an observer, row by row, by triggers: it sees what
a power cut would leave, whatever the hub believes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool
from sqlmodel import SQLModel

from hub_server.storage import schema  # noqa: F401  the tables that others refer to
from tests.simulation.life import Life

T = TypeVar("T")

HUB_ID: Final = "hub"
_TRIGGERS: Final = """
CREATE TRIGGER seen_command_added AFTER INSERT ON agent_commands
BEGIN SELECT note_command(NEW.id, NULL, NEW.status, NULL, NEW.reason, NEW.idempotency_key); END;
CREATE TRIGGER seen_command_changed AFTER UPDATE ON agent_commands
BEGIN SELECT note_command(NEW.id, OLD.status, NEW.status, OLD.reason, NEW.reason, NEW.idempotency_key); END;
CREATE TRIGGER seen_output_added AFTER INSERT ON command_output
BEGIN SELECT note_output(NEW.command_id, NEW.stream, NEW.start_offset, length(NEW.data)); END;
"""


class CommandChange(tuple[str, str | None, str, str | None, str | None, str | None]):
    """Id, status before (None: the row is new), status, reason before, reason, idempotency key."""

    __slots__ = ()


class OutputAdded(tuple[str, str, int, int]):
    """Command, stream, where it starts, how many bytes."""

    __slots__ = ()


class Observer(Protocol):
    def command_committed(self, change: CommandChange) -> None: ...

    def output_committed(self, added: OutputAdded) -> None: ...


class HubDisk:
    """One SQLite database for all seeds, emptied by `reset`: statements are compiled once."""

    def __init__(self, tables: ModuleType) -> None:
        """`tables`: the module of the tables that there shall be."""
        self.observer: Observer | None = None
        self._noted: list[CommandChange | OutputAdded] = []
        self._raw = sqlite3.connect(":memory:", check_same_thread=False)
        self._raw.create_function("note_command", 6, self._note_command)
        self._raw.create_function("note_output", 4, self._note_output)
        self._engine: Engine = create_engine("sqlite://", poolclass=StaticPool, creator=lambda: self._raw)
        wanted = [table for table in SQLModel.metadata.sorted_tables if table.name in _tables_in(tables)]
        SQLModel.metadata.create_all(self._engine, tables=wanted)
        self._raw.executescript(_TRIGGERS)
        self._empty = self._raw.serialize()
        self.connection: Connection = self._engine.connect().execution_options(jtnt_hub_id=HUB_ID)

    def reset(self, observer: Observer) -> None:
        self.rollback()
        self.observer = observer
        self._raw.deserialize(self._empty)

    def commit(self) -> None:
        self.connection.commit()
        noted, self._noted = self._noted, []
        assert self.observer is not None
        for each in noted:
            if isinstance(each, CommandChange):
                self.observer.command_committed(each)
            else:
                self.observer.output_committed(each)

    def rollback(self) -> None:
        self.connection.rollback()
        self._noted.clear()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._raw.execute(query).fetchall()

    def _note_command(self, *values: Any) -> None:
        self._noted.append(CommandChange(values))

    def _note_output(self, *values: Any) -> None:
        self._noted.append(OutputAdded(values))


def _tables_in(module: ModuleType) -> set[str]:
    return {
        str(value.__tablename__)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, SQLModel) and value.__module__ == module.__name__
    }


class HubConnection:
    """What the hub's stores use of an AsyncConnection, on a connection that needs no waiting."""

    def __init__(self, connection: Connection, life: Life) -> None:
        self.sync_connection = connection
        self.dialect = connection.dialect
        self._life = life

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        self._life.check()
        result: CursorResult[Any] = self.sync_connection.execute(statement, parameters)
        return result

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        self._life.check()
        return self.sync_connection.scalar(statement, parameters)

    async def scalars(self, statement: Executable, parameters: Any = None) -> Any:
        self._life.check()
        return self.sync_connection.scalars(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> CursorResult[Any]:
        self._life.check()
        return self.sync_connection.exec_driver_sql(statement, parameters)

    async def run_sync(self, work: Callable[..., Any], *arguments: Any) -> Any:
        self._life.check()
        return work(self.sync_connection, *arguments)


class HubDatabase:
    """In place of hub_server.storage.engine.Database, for one life of the hub."""

    is_sqlite = True
    hub_id = HUB_ID

    def __init__(self, disk: HubDisk, life: Life, *, latency_seconds: float, failure_chance: float) -> None:
        self._disk = disk
        self._life = life
        self._latency_seconds = latency_seconds
        self.failure_chance = failure_chance
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self, _organisation_id: str) -> AsyncIterator[HubConnection]:
        async with self._turn:
            await self._some_time()
            self._disk.rollback()
            yield HubConnection(self._disk.connection, self._life)
            self._life.check()
            self._disk.rollback()

    @asynccontextmanager
    async def write(self, _organisation_id: str) -> AsyncIterator[HubConnection]:
        """As the real one. The hub may die before the commit, after it, or be told that the disk took nothing."""
        async with self._turn:
            await self._some_time()
            self._disk.rollback()
            try:
                yield HubConnection(self._disk.connection, self._life)
                await self._some_time()
                self._life.may_die("before a commit")
                if self._life.chance.happens(self.failure_chance):
                    raise OperationalError("commit", {}, sqlite3.OperationalError("database or disk is full"))
                self._disk.commit()
            except BaseException:
                if not self._life.is_dead:
                    self._disk.rollback()
                raise
            self._life.may_die("after a commit")
        await self._some_time()

    async def transact(self, organisation_id: str, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, run as one transaction."""
        async with self.write(organisation_id) as connection:
            return work(connection.sync_connection)

    async def _some_time(self) -> None:
        await asyncio.sleep(self._life.chance.between(0, self._latency_seconds))
        self._life.check()
