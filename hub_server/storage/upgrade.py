"""Alembic's part in the schema, one migrator at a time. It costs a tenth of a second to import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.storage.engine import EVERY_ORGANISATION, Database, enter_scope
from hub_server.storage.revision import DatabaseNewer

_ADVISORY_LOCK: Final = 0x4A544E54


async def upgrade(database: Database) -> None:
    """Bring the schema to the newest revision. Raises DatabaseNewer, and nothing is changed then."""
    try:
        await with_alembic(database, command.upgrade, "head")
    except CommandError as error:
        raise DatabaseNewer(str(error)) from error


def alembic_config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "hub_server.storage:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


async def with_alembic(database: Database, operation: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Run an Alembic command (`upgrade`, `check`, `revision` …) in one transaction, one migrator at a time.

    It may take as long as the rows that it moves.
    """

    def run(connection: Connection) -> None:
        operation(alembic_config(connection), *arguments, **options)

    if database.is_sqlite:
        await _on_sqlite(database, run)
    else:
        await _on_postgresql(database, run)


async def _on_sqlite(database: Database, run: Callable[[Connection], None]) -> None:
    async with database.engine.connect() as connection:
        # Batch mode copies tables; the pragma does nothing inside a transaction.
        await _set_foreign_keys(connection, "OFF")
        connection = await connection.execution_options(jtnt_writes=True)
        async with connection.begin():
            await connection.run_sync(run)
        await _set_foreign_keys(connection, "ON")


async def _on_postgresql(database: Database, run: Callable[[Connection], None]) -> None:
    patient = database.without_deadline()
    try:
        async with patient.engine.begin() as connection:
            await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            await enter_scope(connection, EVERY_ORGANISATION)
            await connection.run_sync(run)
    finally:
        await patient.close()


async def _set_foreign_keys(connection: AsyncConnection, state: str) -> None:
    await connection.run_sync(lambda sync: sync.connection.cursor().execute(f"PRAGMA foreign_keys={state}"))
