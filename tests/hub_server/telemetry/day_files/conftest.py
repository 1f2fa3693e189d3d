from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub_server.storage import sqlite_files
from hub_server.telemetry.day_files.folder import DayFiles
from tests.hub_server.telemetry.contract.builders import Shelf


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written outlives a process without being synced, and is there much sooner."""
    monkeypatch.setattr(sqlite_files, "WRITER_PRAGMAS", (*sqlite_files.WRITER_PRAGMAS, "synchronous=OFF"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "metrics"


@pytest.fixture
async def shelf(folder: Path, unsynced: None) -> AsyncIterator[Shelf]:
    async with Shelf(lambda: DayFiles(folder=folder)).opened() as opened:
        yield opened
