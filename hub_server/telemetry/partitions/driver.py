"""asyncpg itself, for what is called often or with many rows: SQLAlchemy's part would cost more than the database's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


async def fetch(connection: AsyncConnection, statement: str, *parameters: Any) -> list[Any]:
    """Return the rows, tuples in the order of the statement's columns. Inside the connection's transaction.

    Raises what asyncpg raises.
    """
    rows: list[Any] = await (await _driver(connection)).fetch(statement, *parameters)
    return rows


async def execute(connection: AsyncConnection, statement: str, *parameters: Any) -> int:
    """Return how many rows were written."""
    status: str = await (await _driver(connection)).execute(statement, *parameters)
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0


async def copy(connection: AsyncConnection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    await (await _driver(connection)).copy_records_to_table(table, records=rows, columns=columns)


def arrays_of(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Return the arrays that `unnest` makes `rows` of again; there must be at least one."""
    return [list(column) for column in zip(*rows, strict=True)]


async def _driver(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection
