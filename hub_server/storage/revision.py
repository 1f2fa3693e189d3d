"""Which revision of the schema a database has, and which this program knows: without Alembic, which loads slowly."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from sqlalchemy import Connection, inspect, text

from hub_server.storage.engine import EVERY_ORGANISATION, Database

_VERSIONS: Final = "hub_server.storage.migrations.versions"
_VERSION_TABLE: Final = "alembic_version"


class DatabaseNewer(Exception):
    """The database is of a newer version of this program, or damaged."""


def newest_revision() -> str:
    """Return the one of this program's tables: each file of a migration begins with its own."""
    return max(file.name.partition("_")[0] for file in files(_VERSIONS).iterdir() if file.name[0].isdigit())


async def revision_of(database: Database) -> str | None:
    """Return None for a database without tables."""
    async with database.read(EVERY_ORGANISATION) as connection:
        return await connection.run_sync(_revision_in)


def _revision_in(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"select version_num from {_VERSION_TABLE}"))  # noqa: S608  a constant
    return revision
