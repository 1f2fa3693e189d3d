"""Inventory in the database, a row a section."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import String, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.inventory.model import StoredSection
from hub_server.inventory.tables import AgentInventoryRow
from hub_server.storage.upsert import upsert
from protocol.inventory import Section


class InventoryStore:
    async def load_hashes(self, connection: AsyncConnection) -> Sequence[tuple[str, str, str]]:
        """Return (agent, section, hash) of every organisation: the hub's index at start."""
        row = AgentInventoryRow
        found = await connection.execute(select(col(row.agent_id), col(row.section), col(row.hash)))
        return [(agent_id, section, digest) for agent_id, section, digest in found]

    async def save(self, connection: AsyncConnection, stored: StoredSection) -> None:
        """Write a section in place of the one before. Raises IntegrityError when the agent was deleted."""
        values = {
            "agent_id": stored.agent_id,
            "section": stored.section.value,
            "organisation_id": stored.organisation_id,
            "hash": stored.hash,
            "stored_at": stored.stored_at,
            "body": stored.body,
        }
        await upsert(connection, AgentInventoryRow, ("agent_id", "section"), [values])

    async def bodies(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, sections: Collection[Section]
    ) -> Mapping[Section, str]:
        """Return the bodies of these sections as JSON, which the reader decodes as far as it needs."""
        row = AgentInventoryRow
        found = await connection.execute(
            select(col(row.section), type_coerce(col(row.body), String)).where(
                col(row.agent_id) == agent_id,
                col(row.organisation_id) == organisation_id,
                col(row.section).in_([section.value for section in sections]),
            )
        )
        return {Section(section): body for section, body in found}

    async def of_agent(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str
    ) -> Sequence[StoredSection]:
        row = AgentInventoryRow
        found = await connection.execute(
            select(row.__table__)  # type: ignore[attr-defined]
            .where(col(row.agent_id) == agent_id, col(row.organisation_id) == organisation_id)
            .order_by(col(row.section))
        )
        return [
            StoredSection(
                each.organisation_id, each.agent_id, Section(each.section), each.hash, each.stored_at, each.body
            )
            for each in found
        ]
