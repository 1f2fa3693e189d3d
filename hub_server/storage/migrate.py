"""Brings the schema up to date at start, safely when two hubs start at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hub_server.storage.engine import Database
from hub_server.storage.private_files import keep_private
from hub_server.storage.revision import newest_revision, revision_of


async def migrate(database: Database) -> None:
    """Raises DatabaseNewer, and nothing is changed then. OSError."""
    if database.is_sqlite and database.engine.url.database is not None:
        await asyncio.to_thread(keep_private, Path(database.engine.url.database))
    if await revision_of(database) == newest_revision():
        return
    # Imported here: Alembic takes a tenth of a second, and a hub's every start but the first of a version needs none.
    from hub_server.storage.upgrade import upgrade  # noqa: PLC0415

    await upgrade(database)
