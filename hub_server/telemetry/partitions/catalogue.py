"""Which partitions there are: made ahead and on demand, dropped when too old, by any number of hubs at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry.model import Resolution
from hub_server.telemetry.partitions.periods import (
    DAY_MS,
    PARENTS,
    PARENTS_OF,
    Partition,
    partition_named,
    partition_of,
)

LOCK_TIMEOUT_MS: Final = 2000
"""How long a parent's lock is awaited: meanwhile every other statement on it waits too."""

_ONE_AT_A_TIME: Final = text("select pg_advisory_xact_lock(:key)")
_LOCK: Final = 0x4A54_4D50
_SCOPE: Final = "(select nullif(current_setting('jtnt.organisation', true), ''))"
_WITHIN: Final = f"organisation_id = {_SCOPE} or {_SCOPE} = '*'"
_NAMES: Final = text(
    "select relname, relispartition from pg_class"
    " where relkind = 'r' and relname like 'metric\\_%' and relnamespace = current_schema()::regnamespace"
)


class Catalogue:
    """The names are read once and kept; `forget` when they turn out to be wrong."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: frozenset[str] = frozenset()

    async def load(self) -> None:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            self._known = frozenset(name for name, attached in (await _tables(connection)).items() if attached)

    def partitions(self, parent: str) -> list[Partition]:
        """Return those known of `parent`, the oldest first."""
        return [partition_of(parent, first) for first in sorted(self._beginnings(parent))]

    async def make_ahead(self, now_ms: int) -> None:
        """Make the tables of today and tomorrow, so that no sample waits for one at midnight."""
        await self.ensure(partition_of(parent, at_ms) for parent in PARENTS for at_ms in (now_ms, now_ms + DAY_MS))

    async def ensure(self, partitions: Iterable[Partition]) -> None:
        """Make those that do not exist."""
        missing = {partition for partition in partitions if partition.name not in self._known}
        if not missing:
            return
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(_ONE_AT_A_TIME, {"key": _LOCK})
            there = await _tables(connection)
            for partition in sorted(missing):
                if partition.name in there and not there[partition.name]:
                    await connection.exec_driver_sql(
                        f"drop table {partition.name}"
                    )  # detached by a retention that died
                if not there.get(partition.name, False):
                    await _make(connection, partition)
        self._known |= {name for name, attached in there.items() if attached} | {made.name for made in missing}

    async def drop_before(self, resolution: Resolution, cutoff_ms: int) -> int:
        """Detach and drop what ends at or before `cutoff_ms`; returns how many periods.

        Detaching is short, but nothing else uses the parent meanwhile; dropping takes its time with nobody waiting.
        """
        async with self._database.read(EVERY_ORGANISATION) as connection:
            there = await _tables(connection)
        dropped = set()
        for name, attached in sorted(there.items()):
            partition = partition_named(name)
            if partition and partition.parent in PARENTS_OF[resolution] and partition.to_ms <= cutoff_ms:
                if attached:
                    await self._detach(partition)
                await self._drop(partition)
                dropped.add(partition.from_ms)
        return len(dropped)

    async def _detach(self, partition: Partition) -> None:
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(_ONE_AT_A_TIME, {"key": _LOCK})
            if (await _tables(connection)).get(partition.name):
                await connection.exec_driver_sql(f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
                await connection.exec_driver_sql(f"alter table {partition.parent} detach partition {partition.name}")
        self._known -= {partition.name}

    async def _drop(self, partition: Partition) -> None:
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(_ONE_AT_A_TIME, {"key": _LOCK})
            if (await _tables(connection)).get(partition.name) is False:  # made again meanwhile, it is attached
                await connection.exec_driver_sql(f"drop table {partition.name}")

    def _beginnings(self, parent: str) -> Iterable[int]:
        found = (partition_named(name) for name in self._known if name.startswith(parent))
        return (partition.from_ms for partition in found if partition is not None and partition.parent == parent)


async def _tables(connection: AsyncConnection) -> dict[str, bool]:
    """Return the tables that are named as partitions are, and whether each is one."""
    rows = await connection.execute(_NAMES)
    return {row.relname: row.relispartition for row in rows if partition_named(row.relname) is not None}


async def _make(connection: AsyncConnection, partition: Partition) -> None:
    """Made apart and then attached: nobody who reads or writes the parent waits."""
    span = f"from ({partition.from_ms}) to ({partition.to_ms})"
    for statement in (
        f"create table {partition.name} (like {partition.parent} including all)",
        f"alter table {partition.name} enable row level security",
        f"alter table {partition.name} force row level security",
        f"create policy within_organisation on {partition.name} using ({_WITHIN}) with check ({_WITHIN})",
        f"alter table {partition.parent} attach partition {partition.name} for values {span}",
    ):
        await connection.exec_driver_sql(statement)
