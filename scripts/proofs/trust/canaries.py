"""A secret of every kind, planted by using the hub, then looked for in all it said, logged and stored."""

from __future__ import annotations

import secrets
import tempfile
from functools import partial
from pathlib import Path

from scripts.proofs.report import Report
from tests.integration.canaries import WITNESS, Author, cells, pages
from tests.integration.process_hub import process_hub
from tests.servers.postgres import running_server


async def show(report: Report) -> None:
    for engine in ("SQLite", "PostgreSQL"):
        what = f"canary secrets: in no answer, event, log line, metric or database page ({engine})"
        await report.show(what, partial(_on, engine))


async def _on(engine: str) -> str:
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-canaries-") as name:
        if engine == "SQLite":
            return await _searched(Path(name), None)
        with running_server() as server:
            database = f"canaries_{secrets.token_hex(4)}"
            server.create(database)
            return await _searched(Path(name), server.url_of(database))


async def _searched(folder: Path, database_url: str | None) -> str:
    async with process_hub(folder / "hub", database_url=database_url) as hub:
        story = await Author(hub, folder).live()
        await hub.stop()
        log, stored, files = hub.log.read_bytes(), await cells(hub), dict(pages(hub.folder))
    assert all(WITNESS.encode() in content for content in (log, stored)), "the search is blind"
    leaks = [*story.told(), *story.found_in("the log", log), *story.found_in("the database", stored)]
    leaks += [leak for name, content in files.items() for leak in story.found_in(name, content)]
    assert not leaks, leaks
    size_bytes = len(log) + len(stored) + sum(map(len, files.values()))
    return (
        f"{len(story.canaries)} secrets of {len({canary.kind for canary in story.canaries})} kinds, "
        f"{len(story.said)} answers and events, {size_bytes // 1024} KiB of log, rows and pages: 0 found"
    )
