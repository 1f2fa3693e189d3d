"""Brings a database and its samples up to date, and ends itself by SIGKILL: a program of its own, for tests to start.

Arguments: the database's address, the folder of day files, the words that a statement begins with, and before which of
those statements it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from hub_server.storage.engine import Database
from hub_server.storage.migrate import migrate
from hub_server.telemetry.day_files import takeover
from hub_server.telemetry.day_files.folder import DayFiles


def end_before(words: str, count: int) -> None:
    seen = 0

    def before_statement(_connection: Connection, _cursor: Any, statement: str, *_details: Any) -> None:
        nonlocal seen
        seen += statement.startswith(words)
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", before_statement)


async def upgrade(url: str, metrics: Path) -> None:
    database = Database(url)
    await migrate(database)
    await DayFiles(folder=metrics, database=database).open()


if __name__ == "__main__":
    takeover.BATCH_ROWS = 20  # type: ignore[misc]  # several batches of few rows
    end_before(sys.argv[3], int(sys.argv[4]))
    asyncio.run(upgrade(sys.argv[1], Path(sys.argv[2])))
