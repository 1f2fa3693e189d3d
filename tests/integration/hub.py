"""A real hub in this process: on a thread and an event loop of its own, reached through its listeners only."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog
import uvloop
from sqlalchemy import func, select
from sqlmodel import SQLModel
from structlog.typing import EventDict, WrappedLogger

from hub_server import app
from hub_server.access.model import OnMachine
from hub_server.access.quotas import Quotas
from hub_server.access.standings import NEWS_NAME, Standings
from hub_server.access.store import AccessStore
from hub_server.access.tokens import AccessTokens
from hub_server.access.users import UserService
from hub_server.clock import Clock, SystemClock
from hub_server.commands.store import CommandStore
from hub_server.config import Settings
from hub_server.enrollment.tokens import TokenDesk
from hub_server.fleet.store import FleetStore
from hub_server.opening import open_authority, signer_of
from hub_server.pki.authority import Authority
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.vault import Vault
from hub_server.telemetry.tables import POSTGRESQL_ONLY
from protocol.enumerations import Role
from protocol.joining import TokensCreate
from protocol.people import UsersCreate
from tests.integration.quick_hub import quick_passwords
from tests.migrated import empty_database

START_DEADLINE_SECONDS: Final = 60.0
STOP_DEADLINE_SECONDS: Final = 60.0
ADMINISTRATOR: Final = "ada"
PASSWORD: Final = "correct horse battery staple 7"
CONNECTED_NOW: Final = frozenset({"agent_presence", "audit_checkpoints", "audit_heads"})
"""Tables that say who is connected at the moment, where a refused peer may come and go, and what the hub signs by the
clock; a deed is in `audit_entries`."""
CLOCKWORK: Final = "received_ranges: ('hub:"
"""How rows begin that the hub writes of what it measures of itself."""
THREAD: Final = "hub-of-tests"
UNHURRIED: Final = {"operations_per_second": 10_000, "operations_at_once": 100_000}
"""Tests ask as one person what many would; those of the limit itself set it."""
Rows = Mapping[str, Sequence[str]]


FAULTS: Final[list[str]] = []
"""What hubs of this process logged as an error, and what nobody caught in them; no input may cause any."""


def only_faults(_logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
    """A structlog processor: keep hubs' errors in FAULTS, and the terminal free of their log."""
    if not threading.current_thread().name.startswith(THREAD):
        return record
    if method in {"error", "exception", "critical"}:
        FAULTS.append(repr(record))
    raise structlog.DropEvent


class RunningHub:
    """One hub on one folder. `start` and `stop` may alternate: the same ports, the same database."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str | None = None,
        people_port: int = 0,
        agents_port: int = 0,
        **sections: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        self._database_url = database_url
        self._sections = sections
        self._people_port = people_port
        self._agents_port = agents_port
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=THREAD)
        self._served: Future[None] | None = None
        self._order_stop: Callable[[], None] = lambda: None
        self.database = Database(self.settings.resolved_database_url)
        self._signer = signer_of(self.settings)
        self._authority: Authority | None = None
        """Opened when the hub has started."""

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "data_dir": self.folder,
                "database_url": self._database_url,
                **self._sections,
                "people": {"port": self._people_port, **self._sections.get("people", {})},
                "access": {**UNHURRIED, **self._sections.get("access", {})},
                "agents": {"port": self._agents_port, **self._sections.get("agents", {})},
            }
        )

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self._people_port}"

    @property
    def agent_url(self) -> str:
        return f"https://127.0.0.1:{self._agents_port}"

    @property
    def socket_url(self) -> str:
        return f"wss://127.0.0.1:{self._agents_port}/ws/agents"

    @property
    def authority(self) -> Authority:
        """The hub's keys, as whoever holds its folder has them."""
        assert self._authority is not None, "the hub was not started yet"
        return self._authority

    async def authority_at(self, clock: Clock) -> Authority:
        """Return the same keys with another clock: what they sign is as old as the test wants."""
        vault = await asyncio.to_thread(Vault.open, self.folder, self.settings.secrets)
        return await open_authority(self.settings, self.database, vault, clock, self._signer)

    async def start(self) -> None:
        """Return once both listeners are open. Raises what the hub raises instead of opening them.

        Its first start finds a schema: hubs that are processes of their own make theirs.
        """
        if self._database_url is None:
            await empty_database(self.folder / "hub.db")
        ready: Future[dict[str, int]] = Future()
        self._served = self._thread.submit(self._serve, self.settings, ready)
        opened, served = asyncio.wrap_future(ready), asyncio.wrap_future(self._served)
        either: set[asyncio.Future[Any]] = {opened, served}
        await asyncio.wait(either, timeout=START_DEADLINE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if served.done():
            opened.cancel()
            self._served = None
            await served
        assert opened.done(), f"the hub was not ready within {START_DEADLINE_SECONDS:g} s"
        ports = await opened
        self._people_port, self._agents_port = ports["people"], ports["agents"]
        if self._authority is None:
            self._authority = await self.authority_at(SystemClock())

    async def stop(self) -> None:
        """Order the stop and wait for its end. Raises what the hub raised while it ran."""
        if self._served is None:
            return
        served, self._served = self._served, None
        if not served.done():
            self._order_stop()
        async with asyncio.timeout(STOP_DEADLINE_SECONDS):
            await asyncio.wrap_future(served)

    async def close(self) -> None:
        try:
            await self.stop()
        finally:
            await self._signer.close()
            await self.database.close()
            self._thread.shutdown(wait=False)

    def _serve(self, settings: Settings, ready: Future[dict[str, int]]) -> None:
        async def main() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()

            def order_stop() -> None:
                loop.call_soon_threadsafe(stop.set)

            self._order_stop = order_stop
            await app.serve(settings, stop=stop, listening=ready.set_result)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().set_exception_handler(lambda _loop, context: FAULTS.append(str(context)))
            runner.run(main())

    # What an administrator on the hub's machine may do.

    @property
    def users(self) -> UserService:
        """People as `jtnt-hub users` administers them: in a process beside the hub."""
        return UserService(
            database=self.database,
            clock=SystemClock(),
            passwords=quick_passwords(),
            standings=Standings(rings=self.folder / NEWS_NAME),
            quotas=Quotas(agents=FleetStore().counts, open_commands=CommandStore().open_counts),
        )

    async def on_machine(self, organisation_id: str | None = None) -> OnMachine:
        return OnMachine(organisation_id=organisation_id or await self.users.ensure_default_organisation())

    async def add_user(self, username: str, role: Role, organisation_id: str | None = None) -> str:
        """Return the new user's id; the password is PASSWORD."""
        request = UsersCreate(username=username, password=PASSWORD, role=role)
        return (await self.users.create(await self.on_machine(organisation_id), request)).user.id

    async def add_organisation(self, name: str) -> str:
        async with self.database.write(EVERY_ORGANISATION) as connection:
            return await AccessStore().add_organisation(connection, name, datetime.now(UTC))

    async def mint(
        self, organisation_id: str | None = None, *, clock: Clock | None = None, uses: int = 1, ttl_sec: int = 600
    ) -> str:
        """Return the text of a new enrollment token, made at the time of `clock`."""
        desk = TokenDesk(
            database=self.database,
            clock=clock or SystemClock(),
            root_pin=self.authority.root_pin,
            join_host="127.0.0.1",
            join_port=self._agents_port,
        )
        organisation_id = organisation_id or await self.users.ensure_default_organisation()
        reply = await desk.mint(organisation_id, "test", TokensCreate(uses=uses, ttl_sec=ttl_sec))
        return reply.token_text

    def access_tokens(self, clock: Clock, lifetime_seconds: int = 600) -> AccessTokens:
        return AccessTokens(self.authority.jwt_key, clock, lifetime_seconds)

    # What is in its database.

    async def rows(self) -> Rows:
        """Return every row of every table but CONNECTED_NOW, to compare before and after. Samples are not among them:
        on SQLite they have files of their own.
        """
        found: dict[str, Sequence[str]] = {}
        async with self.database.read(EVERY_ORGANISATION) as connection:
            for table in SQLModel.metadata.sorted_tables:
                if table.name not in CONNECTED_NOW and table.info != POSTGRESQL_ONLY:
                    found[table.name] = sorted(repr(row) for row in (await connection.execute(select(table))).all())
        return found

    async def changed_since(self, before: Rows) -> list[str]:
        """Return the rows that came, went or changed since `before`, but CLOCKWORK; nothing when all is as it was."""
        after = await self.rows()
        gone = [f"- {table}: {row}" for table, rows in before.items() for row in set(rows) - set(after[table])]
        came = [f"+ {table}: {row}" for table, rows in after.items() for row in set(rows) - set(before[table])]
        return [row for row in gone + came if not row[2:].startswith(CLOCKWORK)]

    async def count(self, table: type[SQLModel], **where: object) -> int:
        columns = SQLModel.metadata.tables[str(table.__tablename__)].c
        query = select(func.count()).select_from(columns.values()[0].table)
        for name, value in where.items():
            query = query.where(columns[name] == value)
        async with self.database.read(EVERY_ORGANISATION) as connection:
            return (await connection.execute(query)).scalar_one()

    # Its REST side.

    @asynccontextmanager
    async def people(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A person's HTTP client, with its own cookies."""
        jar = aiohttp.CookieJar(unsafe=True)  # the jar keeps no cookie of an address otherwise
        async with aiohttp.ClientSession(self.web_url, cookie_jar=jar, timeout=aiohttp.ClientTimeout(15)) as session:
            yield session

    @asynccontextmanager
    async def machine(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Machine]:
        """A machine's HTTP client at the loopback address `address`; each has its own limits at the hub."""
        if tls is None:
            tls = ssl.create_default_context(cadata=self.authority.root_pem)
        connector = aiohttp.TCPConnector(ssl=tls, local_addr=(address, 0))
        timeout = aiohttp.ClientTimeout(15)
        async with aiohttp.ClientSession(self.agent_url, connector=connector, timeout=timeout) as session:
            yield session

    async def sign_in(self, username: str = ADMINISTRATOR) -> str:
        """Return an access token."""
        async with self.people() as session:
            body = {"username": username, "password": PASSWORD}
            async with session.post("/api/v1/auth/sign-in", json=body) as answer:
                assert answer.status == 200, await answer.text()
                token: str = (await answer.json())["accessToken"]
                return token


Machine = aiohttp.ClientSession


@asynccontextmanager
async def running_hub(folder: Path, **settings: Any) -> AsyncIterator[RunningHub]:
    """A hub with its administrator, until the block ends."""
    hub = RunningHub(folder, **settings)
    try:
        await hub.start()
        await hub.add_user(ADMINISTRATOR, Role.ORG_ADMIN)
        yield hub
    finally:
        await hub.close()
