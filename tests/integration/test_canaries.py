"""A secret is where it was given, and nowhere else: no answer, event, log line, metric or database page holds it."""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.canaries import WITNESS, Author, cells, pages
from tests.integration.process_hub import ProcessHub, process_hub
from tests.servers.postgres import PostgresServer

KINDS_MIN = 30
QUICK = (sys.executable, "-m", "tests.integration.quick_hub")


@pytest.fixture(params=["sqlite", "postgresql"])
async def logged(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ProcessHub]:
    """A hub of its own process, its log at the finest level, on each database engine."""
    if request.param == "sqlite":
        async with process_hub(tmp_path / "hub", program=QUICK) as hub:
            yield hub
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"canaries_{secrets.token_hex(4)}"
    server.create(name)
    try:
        async with process_hub(tmp_path / "hub", database_url=server.url_of(name), program=QUICK) as hub:
            yield hub
    finally:
        server.drop(name)


async def test_no_secret_is_anywhere_but_where_it_was_given(logged: ProcessHub, tmp_path: Path) -> None:
    story = await Author(logged, tmp_path).live()
    assert len({canary.kind for canary in story.canaries}) >= KINDS_MIN
    assert story.told() == []
    for canary in story.canaries:
        if canary.given_in:
            given = [said for said in story.said if said.where in canary.given_in]
            assert any(canary.is_in(said.text.encode()) for said in given), (
                f"{canary.kind} was never given: a blind search"
            )
    await logged.stop()
    log, stored = logged.log.read_bytes(), await cells(logged)
    on_disk = dict(pages(logged.folder))
    assert WITNESS.encode() in log
    assert WITNESS.encode() in stored
    assert story.found_in("the log", log) == []
    assert story.found_in("the database", stored) == []
    assert [leak for name, content in on_disk.items() for leak in story.found_in(name, content)] == []
    if "hub.db" in on_disk:
        assert WITNESS.encode() in b"".join(content for name, content in on_disk.items() if name.startswith("hub.db"))
