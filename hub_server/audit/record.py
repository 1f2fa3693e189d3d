"""The audit row of a deed, in the deed's own transaction."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.audit.model import NOTHING_BEFORE, AuditEntry
from hub_server.audit.tables import AuditHeadRow, AuditRow
from hub_server.storage.engine import hub_id_of

# Built once: building them again costs more than the database takes.
_CLAIM: Final = {
    name: dialect_insert(AuditHeadRow)
    .values(hub_id=bindparam("hub_id"), number=1, hash=NOTHING_BEFORE, checkpoint=0)
    .on_conflict_do_update(index_elements=["hub_id"], set_={"number": col(AuditHeadRow.number) + 1})
    .returning(col(AuditHeadRow.number), col(AuditHeadRow.hash))
    for name, dialect_insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_ADD: Final = insert(AuditRow)
_MOVE: Final = update(AuditHeadRow).where(col(AuditHeadRow.hub_id) == bindparam("of_hub"))


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

    `organisation_id`: whose audit shows it; EVERY_ORGANISATION for what the hub does for all. The end of the chain
    stays locked until the transaction ends, so ask for it last.
    """
    await connection.run_sync(
        partial(
            record_within,
            organisation_id=organisation_id,
            at=at,
            actor=actor,
            action=action,
            target=target,
            detail=detail,
        )
    )


def record_within(
    connection: Connection,
    *,
    organisation_id: str,
    at: datetime,
    actor: str,
    action: str,
    target: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """The same for a transaction that runs as a whole (`Database.transact`)."""
    hub_id = hub_id_of(connection)
    number, previous = connection.execute(_CLAIM[connection.dialect.name], {"hub_id": hub_id}).one()
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
    connection.execute(_ADD, msgspec.structs.asdict(entry) | {"hash": entry_hash})
    connection.execute(_MOVE, {"of_hub": hub_id, "hash": entry_hash})
