"""Agents in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.fleet.model import Agent
from hub_server.fleet.tables import AgentRow
from protocol.desired import AgentConfig
from protocol.enumerations import AgentTrust
from protocol.operations import Thresholds

# Built once: building it again costs more than the database takes.
_LOCK_TRUST: Final = (
    select(col(AgentRow.trust))
    .where(col(AgentRow.id) == bindparam("of_agent"), col(AgentRow.organisation_id) == bindparam("of_organisation"))
    .with_for_update(key_share=True)
)


class FleetStore:
    async def load_all(self, connection: AsyncConnection) -> list[Agent]:
        """Return every agent of every organisation: the hub's index at start."""
        return [_agent(row) for row in (await connection.execute(select(AgentRow))).mappings()]

    async def find(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> Agent | None:
        row = (
            (
                await connection.execute(
                    select(AgentRow).where(
                        col(AgentRow.id) == agent_id, col(AgentRow.organisation_id) == organisation_id
                    )
                )
            )
            .mappings()
            .first()
        )
        return None if row is None else _agent(row)

    async def counts(self, connection: AsyncConnection, organisation_ids: Collection[str]) -> Mapping[str, int]:
        """Return how many agents each of these organisations has; one without agents is missing."""
        organisation = col(AgentRow.organisation_id)
        rows = await connection.execute(
            select(organisation, func.count()).where(organisation.in_(organisation_ids)).group_by(organisation)
        )
        return {row[0]: row[1] for row in rows}

    def lock_trust(self, connection: Connection, organisation_id: str, agent_id: str) -> AgentTrust | None:
        """Return how the agent stands, None when it is gone; nobody changes that until the transaction ends."""
        trust = connection.scalar(_LOCK_TRUST, {"of_agent": agent_id, "of_organisation": organisation_id})
        return None if trust is None else AgentTrust(trust)

    async def kept_out(self, connection: AsyncConnection) -> list[Agent]:
        """Return every organisation's agents that are in quarantine or revoked."""
        rows = await connection.execute(select(AgentRow).where(col(AgentRow.trust) != AgentTrust.TRUSTED.value))
        return [_agent(row) for row in rows.mappings()]

    async def add(self, connection: AsyncConnection, agent: Agent) -> None:
        await connection.execute(insert(AgentRow).values(**_values(agent)))

    def update(self, connection: Connection, organisation_id: str, agent_id: str, changes: Mapping[str, Any]) -> bool:
        """Write only what changed, so that two who change different things do not undo each other.

        Returns False when the agent is not there any more.
        """
        written = connection.execute(
            update(AgentRow)
            .where(col(AgentRow.id) == agent_id, col(AgentRow.organisation_id) == organisation_id)
            .values(**{name: msgspec.to_builtins(value) for name, value in changes.items()})
        )
        return written.rowcount > 0

    async def delete(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        await connection.execute(
            delete(AgentRow).where(col(AgentRow.id) == agent_id, col(AgentRow.organisation_id) == organisation_id)
        )


def _agent(row: RowMapping) -> Agent:
    fields: dict[str, Any] = dict(row)
    fields["config"] = msgspec.convert(fields["config"], AgentConfig)
    fields["thresholds"] = msgspec.convert(fields["thresholds"], Thresholds)
    fields["trust"] = AgentTrust(fields["trust"])
    return Agent(**fields)


def _values(agent: Agent) -> dict[str, Any]:
    values = msgspec.structs.asdict(agent)
    values["config"] = msgspec.to_builtins(agent.config)
    values["thresholds"] = msgspec.to_builtins(agent.thresholds)
    return values
