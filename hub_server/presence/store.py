"""Presence in the database: written for many agents at once, read at the hub's start."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.presence.model import PresenceRecord
from hub_server.presence.tables import PresenceRow
from hub_server.storage.upsert import upsert


class PresenceStore:
    async def load_all(self, connection: AsyncConnection) -> list[PresenceRecord]:
        """Return every agent of every organisation: the hub's index at start."""
        rows = (await connection.execute(select(PresenceRow))).mappings()
        return [PresenceRecord(**row) for row in rows]

    async def save(self, connection: AsyncConnection, records: Sequence[PresenceRecord]) -> None:
        await upsert(connection, PresenceRow, ("agent_id",), [msgspec.structs.asdict(record) for record in records])

    async def delete_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        await connection.execute(
            delete(PresenceRow).where(
                col(PresenceRow.agent_id) == agent_id, col(PresenceRow.organisation_id) == organisation_id
            )
        )
