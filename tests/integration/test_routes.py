"""No spelling of any route gets a stranger in, on either listener."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.integration import routes
from tests.integration.hub import RunningHub, running_hub

METHODS: Final = ("GET", "POST", "DELETE")
Tables = dict[str, set[tuple[str, str]]]


@pytest.fixture(scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[RunningHub, Tables]]:
    """A hub, and the routes of its two listeners as it made them."""
    tables: Tables = {}
    with routes.seen_tables(tables):
        async with running_hub(tmp_path_factory.mktemp("hub")) as hub:
            yield hub, tables


async def test_no_spelling_of_a_route_lets_a_stranger_in(seen: tuple[RunningHub, Tables]) -> None:
    hub, tables = seen
    assert set(tables) == {"people", "agents"}
    before = await hub.rows()
    tls = ssl.create_default_context(cadata=hub.authority.root_pem)
    people = await routes.ask_all("people", tables["people"], _port(hub.web_url), tls=None, methods=METHODS)
    agents = await routes.ask_all("agents", tables["agents"], _port(hub.agent_url), tls=tls, methods=METHODS)
    assert (people.wrong, agents.wrong) == ([], [])
    assert people.statuses[404] > 500
    assert agents.statuses[401] > 200
    assert not await hub.changed_since(before)


async def test_public_routes_are_those_that_are_named(seen: tuple[RunningHub, Tables]) -> None:
    """The list of them holds nothing that is no route any more."""
    _, tables = seen
    named = {name: {path for _, path in public} for name, public in routes.PUBLIC.items()}
    assert all(paths <= {path for _, path in tables[name]} for name, paths in named.items())


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])
