"""Everything of one agent, in slices: a commit waits for a slice at most."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.storage.engine import Database
from hub_server.telemetry.model import EVENTS_STREAM
from hub_server.telemetry.partitions import driver
from hub_server.telemetry.partitions.catalogue import Catalogue
from hub_server.telemetry.partitions.packer import PACKING_LOCK
from hub_server.telemetry.partitions.periods import PARENTS

SLICE_ROWS: Final = 5000

_NOT_WHILE_PACKING: Final = text("select pg_advisory_xact_lock(:key)")
_SLICE: Final = """
    delete from {table} where ctid = any(array(
        select ctid from {table} where agent_id = $1 and organisation_id = $2 limit $3))
"""
_NEWEST: Final = text("delete from metric_newest where agent_id = :agent and organisation_id = :organisation")
_RANGES: Final = text(
    "delete from received_ranges where agent_id = :agent and organisation_id = :organisation and stream <> :events"
)


async def delete_agent(database: Database, catalogue: Catalogue, organisation_id: str, agent_id: str) -> None:
    """Samples first: what is being packed is in its chunk when they are gone."""
    for parent in PARENTS:
        for partition in catalogue.partitions(parent):
            while await _delete_slice(database, partition.name, organisation_id, agent_id) == SLICE_ROWS:
                pass
    async with database.write(organisation_id) as connection:
        await _wait_for_packing(connection)
        await connection.execute(_NEWEST, {"agent": agent_id, "organisation": organisation_id})
        await connection.execute(_RANGES, {"agent": agent_id, "organisation": organisation_id, "events": EVENTS_STREAM})


async def _delete_slice(database: Database, table: str, organisation_id: str, agent_id: str) -> int:
    async with database.write(organisation_id) as connection:
        await _wait_for_packing(connection)
        return await driver.execute(connection, _SLICE.format(table=table), agent_id, organisation_id, SLICE_ROWS)


async def _wait_for_packing(connection: AsyncConnection) -> None:
    await connection.execute(_NOT_WHILE_PACKING, {"key": PACKING_LOCK})
