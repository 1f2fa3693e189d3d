"""Insert or replace, on both engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel


async def upsert(
    connection: AsyncConnection,
    row: type[SQLModel],
    keys: Sequence[str],
    values: Sequence[Mapping[str, Any]],
    *,
    where: ColumnElement[bool] | None = None,
) -> None:
    """Write each of `values`; where a row with the same `keys` exists, its other columns are replaced.

    `where`: of a row that exists, what must hold for it to be replaced.
    """
    if not values:
        return
    dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = dialect_insert(row)
    replaced = {name: statement.excluded[name] for name in values[0] if name not in keys}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=list(keys), set_=replaced, where=where),
        [dict(value) for value in values],
    )
