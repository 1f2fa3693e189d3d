"""No sample is lost or stored twice, wherever the hub is cut off."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path

import pytest

from hub_server.storage import sqlite_files
from hub_server.telemetry.day_files.folder import DayFiles
from tests.hub_server.telemetry.day_files.journey import assert_complete, assert_consistent, traced, travel

STATEMENTS_PER_LIFE = 60


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written outlives a process without being synced, and is there much sooner."""
    monkeypatch.setattr(sqlite_files, "WRITER_PRAGMAS", (*sqlite_files.WRITER_PRAGMAS, "synchronous=OFF"))


async def test_before_any_commit_of_any_file_the_disk_is_consistent_and_the_work_can_go_on(
    tmp_path: Path, unsynced: None
) -> None:
    """A copy of the files is what a process leaves that is killed at this moment."""
    acknowledged = 0
    copies: list[tuple[Path, int]] = []

    def seen(statement: str) -> None:
        if statement == "COMMIT":
            copy = tmp_path / f"copy-{len(copies)}"
            shutil.copytree(tmp_path / "metrics", copy)
            copies.append((copy, acknowledged))

    def acknowledge(number: int) -> None:
        nonlocal acknowledged
        acknowledged = number + 1

    store = DayFiles(folder=tmp_path / "metrics")
    with traced(seen):
        await store.open()
        await travel(store, acknowledge)
        await store.close()
    assert len(copies) > 40
    for copy, told in copies:
        survivor = DayFiles(folder=copy)
        await survivor.open()
        try:
            await assert_consistent(survivor, told)
            await travel(survivor, lambda _number: None)
            await assert_complete(survivor)
        finally:
            await survivor.close()


async def test_a_hub_that_is_killed_again_and_again_gets_to_the_end(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    lives = 0
    while True:
        lives += 1
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.hub_server.telemetry.day_files.journey"),
            *(str(tmp_path / "metrics"), str(STATEMENTS_PER_LIFE * lives)),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            told, _ = await child.communicate()
        acknowledged |= {int(line) for line in told.split()}
        store = DayFiles(folder=tmp_path / "metrics")
        await store.open()
        await assert_consistent(store, max(acknowledged, default=-1) + 1)
        await store.close()
        if child.returncode != -signal.SIGKILL:
            break
    assert child.returncode == 0
    assert lives > 2
    await store.open()
    await assert_complete(store)
    await store.close()
