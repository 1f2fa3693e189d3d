"""An empty SQLite database with the newest schema: made by the migrations once a process, and copied from then on."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

from hub_server.storage.engine import Database
from hub_server.storage.migrate import migrate

_MADE: Final[list[bytes]] = []


async def empty_database(path: Path) -> None:
    """Put one at `path`, for its owner alone, unless there is a file already; its folder too where there is none."""
    if not _MADE:
        _MADE.append(await _made_by_migrations())
    await asyncio.to_thread(_write, path, _MADE[0])


async def _made_by_migrations() -> bytes:
    with tempfile.TemporaryDirectory(prefix="jtnt-migrated-") as folder:
        file = Path(folder) / "hub.db"
        database = Database(f"sqlite+aiosqlite:///{file}")
        try:
            await migrate(database)
        finally:
            await database.close()
        return await asyncio.to_thread(file.read_bytes)


def _write(path: Path, content: bytes) -> None:
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
