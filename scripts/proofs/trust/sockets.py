"""Who is locked or demoted, or whose key is revoked, is out: 100 sockets within a second, the next operation denied."""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from socketio.exceptions import SocketIOError
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.model import OnMachine
from hub_server.access.passwords import Passwords
from hub_server.access.standings import NEWS_NAME, Standings
from hub_server.access.users import UserService
from hub_server.clock import SystemClock
from hub_server.storage.engine import Database
from protocol.people import UsersName
from scripts.load.person import sign_in
from scripts.measures.hub import Hub
from scripts.proofs.report import Report
from tests.integration.person import Person, watching_at

SOCKETS: Final = 100
SIGN_INS: Final = 5
WITHIN_SECONDS: Final = 1.0
DEADLINE_SECONDS: Final = 30.0
SETTINGS: Final = {"JTNT_ACCESS__OPERATIONS_PER_SECOND": "10000", "JTNT_ACCESS__OPERATIONS_AT_ONCE": "100000"}
End = Callable[[], Awaitable[object]]


class NoBound:
    """Quotas of an organisation that has none."""

    async def check_users(self, connection: AsyncConnection, organisation_id: str) -> None:
        pass


class Bystanders:
    """An administrator of a running hub, and people whom they make to be ended."""

    def __init__(self, hub: Hub, admin: Person, users: UserService, organisation_id: str) -> None:
        self.admin = admin
        self.users = users
        self.machine = OnMachine(organisation_id=organisation_id)
        self._hub = hub

    async def person(self) -> tuple[str, list[str]]:
        """Return the id of a new technician and access tokens of several sign-ins."""
        name, password = f"somebody-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
        made = await self.admin.do("users:create", username=name, password=password, role="technician")
        return made["user"]["id"], [await sign_in(self._hub.web_url, name, password) for _ in range(SIGN_INS)]

    async def ended(self, tokens: Sequence[str], end: End) -> str:
        """Open the sockets, end what they stand on, and return the figures."""
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(watching_at(self._hub.web_url, tokens[number % len(tokens)]))
                for number in range(SOCKETS)
            ]
            assert (await sockets[0].ask("agents:list"))["ok"]
            await end()
            since = time.monotonic()
            denied = asyncio.gather(*(_is_denied(socket) for socket in sockets))
            async with asyncio.timeout(DEADLINE_SECONDS):
                gone_at = await asyncio.gather(*(_gone_at(socket) for socket in sockets))
            refused = sum(await denied)
        slowest = max(gone_at) - since
        assert slowest <= WITHIN_SECONDS, f"the last was closed after {slowest:.2f} s"
        assert (await self.admin.ask("agents:list"))["ok"], "the administrator is cut off, too"
        return f"{len(gone_at)} of {SOCKETS} closed, the last after {slowest * 1000:.0f} ms; {refused} denied at once"


async def show(report: Report) -> None:
    configuration = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        async with _bystanders() as people:
            for words, step in STEPS.items():
                await report.show(f"{words}: {SOCKETS} sockets closed within 1 s", partial(step, people))
    finally:
        structlog.configure(**configuration)


async def _locked(people: Bystanders) -> str:
    user_id, tokens = await people.person()
    said = await people.ended(tokens, lambda: people.admin.do("users:lock", userId=user_id))
    assert f"{SOCKETS} denied" in said, said
    return said


async def _demoted(people: Bystanders) -> str:
    user_id, tokens = await people.person()
    said = await people.ended(tokens, lambda: people.admin.do("users:set-role", userId=user_id, role="viewer"))
    assert f"{SOCKETS} denied" in said, said
    return said


async def _revoked(people: Bystanders) -> str:
    made = await people.admin.do("api-keys:create", name="script", role="technician")
    key_id = made["key"]["id"]
    said = await people.ended([made["keyText"]], lambda: people.admin.do("api-keys:revoke", keyId=key_id))
    assert f"{SOCKETS} denied" in said, said
    return said


async def _locked_beside(people: Bystanders) -> str:
    user_id, tokens = await people.person()
    said = await people.ended(tokens, lambda: people.users.lock(people.machine, UsersName(user_id=user_id)))
    assert f"{SOCKETS} denied" in said, said
    return said


STEPS: Final[dict[str, Callable[[Bystanders], Awaitable[str]]]] = {
    "a person is locked": _locked,
    "a person gets a smaller role": _demoted,
    "an API key is revoked": _revoked,
    "a person is locked by `jtnt-hub users lock`, beside the hub": _locked_beside,
}


async def _is_denied(socket: Person) -> bool:
    try:
        reply: dict[str, Any] = await socket.client.call("agents:list", {}, timeout=1)
    except SocketIOError:
        return True
    return not reply["ok"] and reply["error"]["code"] == "unauthenticated"


async def _gone_at(socket: Person) -> float:
    await socket.gone.wait()
    return time.monotonic()


@asynccontextmanager
async def _bystanders() -> AsyncIterator[Bystanders]:
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-sockets-") as name:
        hub = Hub(Path(name) / "hub", SETTINGS)
        await hub.start()
        database = Database(f"sqlite+aiosqlite:///{hub.folder / 'hub.db'}")
        users = UserService(
            database=database,
            clock=SystemClock(),
            passwords=Passwords(),
            standings=Standings(rings=hub.folder / NEWS_NAME),
            quotas=NoBound(),
        )
        try:
            await hub.create_administrator()
            async with watching_at(hub.web_url, await hub.access_token()) as admin:
                yield Bystanders(hub, admin, users, await users.ensure_default_organisation())
        finally:
            await database.close()
            await hub.stop()
