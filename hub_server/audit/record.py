"""The audit row of a deed, in the deed's own transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.audit.model import NOTHING_BEFORE, AuditEntry
from hub_server.audit.tables import AuditHeadRow, AuditRow
from hub_server.storage.engine import hub_id_of


async def record(
    connection: AsyncConnection,
    *,
    organisation_id: str,
    at: datetime,
    actor: str,
    action: str,
    target: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """`actor`: `user:<name>`, `agent:<id>` or `hub`; `target`: `<kind>:<id>`. Secrets never go into `detail`.

    The end of the chain stays locked until the transaction ends, so ask for it last.
    """
    hub_id = hub_id_of(connection)
    number, previous = await _next_place(connection, hub_id)
    entry = AuditEntry(
        hub_id=hub_id,
        number=number,
        organisation_id=organisation_id,
        at=at,
        actor=actor,
        action=action,
        target=target,
        detail=orjson.dumps(detail or {}, default=str, option=orjson.OPT_SORT_KEYS).decode(),
    )
    entry_hash = entry.hash_after(previous)
    await connection.execute(
        insert(AuditRow).values(
            hub_id=hub_id,
            number=number,
            organisation_id=organisation_id,
            at=at,
            actor=actor,
            action=action,
            target=target,
            detail=entry.detail,
            hash=entry_hash,
        )
    )
    await connection.execute(update(AuditHeadRow).where(col(AuditHeadRow.hub_id) == hub_id).values(hash=entry_hash))


async def _next_place(connection: AsyncConnection, hub_id: str) -> tuple[int, str]:
    """Return the next number of the chain and the hash before it, and lock its end."""
    dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = dialect_insert(AuditHeadRow).values(hub_id=hub_id, number=1, hash=NOTHING_BEFORE)
    claim = statement.on_conflict_do_update(
        index_elements=["hub_id"], set_={"number": col(AuditHeadRow.number) + 1}
    ).returning(col(AuditHeadRow.number), col(AuditHeadRow.hash))
    number, previous = (await connection.execute(claim)).one()
    return number, previous
