"""A real hub, killed in the middle of an enrollment: what its tokens count is what it has issued; on both databases."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
import pytest

from hub_server.bench.processes import own_module, start
from protocol.identity import JoinString
from scripts.measures.hub import Hub
from scripts.proofs.trust.enrollment import Counts, Site, counts_in, site_in
from tests.integration.mortal_hub import COMMIT, Moment, Order
from tests.servers.postgres import PostgresServer

RACERS: Final = 20
END_DEADLINE_SECONDS: Final = 60.0
POINTS: Final = {
    "before the first write": (Order(Moment.BEFORE, "UPDATE enrollment_tokens"), False),
    "the use is counted": (Order(Moment.AFTER, "UPDATE enrollment_tokens"), False),
    "the agent is there": (Order(Moment.AFTER, "INSERT INTO agents"), False),
    "the certificate is there": (Order(Moment.AFTER, "INSERT INTO certificates"), False),
    "the use is on record": (Order(Moment.AFTER, "INSERT INTO enrollment_uses"), False),
    "all is written": (Order(Moment.BEFORE, COMMIT), False),
    "all is committed": (Order(Moment.AFTER, COMMIT), True),
    "the hub itself knows it, the machine does not": (Order(Moment.AFTER, "SELECT agents"), True),
}
"""Where the hub is killed, and whether the enrollment was committed."""


class MortalHub(Hub):
    """A hub that can be told where to die."""

    async def start_as_users_do(self) -> float:
        argv = own_module("tests.integration.mortal_hub", str(self._order), "serve")
        self._program = start(argv, self.environment, self.folder.with_suffix(".log"))
        await self.wait_until_ready()
        return 0.0

    @asynccontextmanager
    async def killed_at(self, order: Order) -> AsyncIterator[None]:
        """Within the block the hub ends at `order`, and is gone after it."""
        self._order.write_bytes(msgspec.json.encode(order))
        yield
        died = await asyncio.to_thread(self._running.process.wait, END_DEADLINE_SECONDS)
        assert died == -signal.SIGKILL

    @property
    def _order(self) -> Path:
        return self.folder.with_suffix(".order")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("killed") / "site"
    if request.param == "sqlite":
        async with site_in(folder, {}, RACERS, MortalHub) as running:
            yield running
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"killed_{secrets.token_hex(4)}"
    server.create(name)
    try:
        async with site_in(folder, {"JTNT_DATABASE_URL": server.url_of(name)}, RACERS, MortalHub) as running:
            yield running
    finally:
        server.drop(name)


@pytest.fixture(scope="module")
async def join(site: Site) -> JoinString:
    """What lets one machine join for each point."""
    return JoinString.parse(await site.hub.join_string(len(POINTS)))


@pytest.mark.parametrize(("order", "is_committed"), POINTS.values(), ids=POINTS)
async def test_uses_are_certificates_wherever_the_hub_is_killed(
    site: Site, join: JoinString, order: Order, is_committed: bool
) -> None:
    assert isinstance(site.hub, MortalHub)
    assert await site.kill(str(order), site.hub.killed_at(order), join) is is_committed


async def test_many_race_for_one_use_over_real_connections(site: Site) -> None:
    join, before = JoinString.parse(await site.hub.join_string(1)), await counts_in(site.database_url)
    answers, _ = await site.race(join)
    assert answers == {HTTPStatus.OK: 1, HTTPStatus.UNAUTHORIZED: RACERS - 1}
    assert (await counts_in(site.database_url)).since(before) == Counts(1, 1, 1, 1)
