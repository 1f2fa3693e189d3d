"""The dashboards' Socket.IO server: sign-in at connect, operations, and who has to leave."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct, structs
from sqlalchemy.exc import SQLAlchemyError

from hub_server.access.model import Permission, Principal, permits
from hub_server.access.service import AccessService
from hub_server.access.standings import Session, Standing
from hub_server.access.tokens import signed_out
from hub_server.clock import Clock
from hub_server.errors import HubError, RateLimited, Unauthenticated
from hub_server.gateway.dashboards.announcer import Announcer
from hub_server.gateway.dashboards.lines import Lines
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.operations import Caller, Operations, request_of
from hub_server.gateway.dashboards.pace import Pace
from hub_server.gateway.dashboards.rooms import rooms_of
from hub_server.gateway.dashboards.sockets import Sockets, refused
from hub_server.gateway.faults import refusal_of
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.visitors import prove
from protocol.codes import ErrorCode
from protocol.limits import SIGN_IN_TIMEOUT_SECONDS
from protocol.operations import AuthRefresh, AuthRefreshReply, FeedAck

log = structlog.get_logger(component="dashboards")

SWEEP_SECONDS: Final = 0.4
SWEEP_DEADLINE_SECONDS: Final = 10.0
STRANGERS_MAX: Final = 512
CLIENTS_MAX: Final = 5000
SOCKETS_EACH_MAX: Final = 200
"""Of one person's sign-ins together, and of each API key."""
REFRESH: Final = "auth:refresh"
UNAVAILABLE: Final = str(ErrorCode.UNAVAILABLE)
CONFIRMATION: Final = '2["feed:ack",'
"""How the one event begins that every client sends with every tick, and that nobody answers."""
_confirmation: Final = msgspec.json.Decoder(tuple[str, FeedAck])


class Client(Struct):
    """A connected browser or script."""

    session: Session

    @property
    def principal(self) -> Principal:
        return self.session.principal

    @property
    def standing(self) -> Standing:
        return self.session.standing


class DashboardServer:
    def __init__(
        self,
        *,
        sockets: Sockets,
        lines: Lines,
        clock: Clock,
        access: AccessService,
        operations: Operations,
        announcer: Announcer,
        feed: LiveFeed,
        pace: Pace,
        addresses: AddressReader | None = None,
    ) -> None:
        """`addresses`: where clients come from; without it each peer speaks for itself, proxies too."""
        self._sockets = sockets
        self._server = sockets.server
        self._lines = lines
        self._clock = clock
        self._access = access
        self._operations = operations
        self._announcer = announcer
        self._feed = feed
        self._pace = pace
        self._addresses = addresses or AddressReader()
        self._leaving: set[str] = set()
        self._hearing = asyncio.Lock()
        self._clients: dict[str, Client] = {}
        self._sockets_of: Counter[str] = Counter()
        self._strangers: dict[str, float] = {}
        self.cut_count = 0
        """How many clients left more unread than they may, and were cut off."""
        self._server.on("connect", self._connect)
        self._server.on("disconnect", self._disconnect)
        self._server.on("*", self._operation)

    def attach(self, application: web.Application) -> None:
        self._sockets.attach(application)

    @property
    def client_count(self) -> int:
        return len(self._clients)

    def is_signed_in(self, engine_id: str) -> bool:
        """Tell whether the engine.io session of this id has a person's sign-in."""
        return self._sockets.socket_of(engine_id) in self._clients

    async def run(self) -> None:
        """Cut off clients whose sign-in has ended or run out, and those that leave too much unread.

        What ended on this hub wakes the first of both tasks at once; the other one looks for the rest.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cut_when_told(tasks), name="dashboards-ended")
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                await self.sweep()

    async def sweep(self) -> None:
        await self._note_ended()
        for socket_id, client in list(self._clients.items()):
            line = self._lines.open_lines[socket_id]
            if line.is_over and socket_id not in self._leaving:
                self.cut_count += 1
                log.info("dashboard cut off", socket_id=socket_id, reason="does not read")
                await self._sockets.break_off(socket_id)
            elif line.has_missed and line.is_drained:
                line.has_missed = False
                self._tell_status(socket_id, client.principal)
        await self._cut_strangers()
        self._sockets.end_leftovers(self._clock.monotonic())

    async def _cut_when_told(self, tasks: asyncio.TaskGroup) -> None:
        changed = self._access.standings.changed
        while True:
            await changed.wait()
            changed.clear()
            self._cut(
                tasks, "sign-in ended", [name for name, client in self._clients.items() if client.standing.is_over]
            )

    async def _hear_news(self) -> None:
        """Before an operation: learn what the command line ended since the last one. Nearly always one `stat`."""
        standings = self._access.standings
        if not standings.has_news():
            return
        async with self._hearing:
            news = standings.news()
            if standings.has_news() and await self._note_ended():
                standings.note_heard(news)

    async def _note_ended(self) -> bool:
        """Learn what ended by its time, and what other processes ended. Return False when the database was in no state
        to say so.
        """
        sessions, now = [client.session for client in self._clients.values()], self._clock.now()
        self._access.standings.end(session.standing for session in sessions if session.expires_at <= now)
        try:
            async with asyncio.timeout(SWEEP_DEADLINE_SECONDS):
                await self._access.note_ended(sessions)
        except (SQLAlchemyError, OSError, TimeoutError):
            log.warning("sign-ins not checked; tried again with the next sweep")
            return False
        return True

    async def shut_down(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._cut(tasks, "hub stops", self._clients)
        await self._server.shutdown()

    async def _connect(self, socket_id: str, *arguments: Any) -> Any:
        if not arguments or arguments[0] is not self._server.get_environ(socket_id):
            return await self._operation("connect", socket_id, *arguments)  # an event that a client named so
        environ, auth = arguments[0], arguments[1] if len(arguments) > 1 else None
        await self._welcome(socket_id, environ, auth)
        return None

    async def _welcome(self, socket_id: str, environ: dict[str, Any], auth: Any) -> None:
        address = self._addresses.address_of(environ["aiohttp.request"])
        try:
            async with asyncio.timeout(SIGN_IN_TIMEOUT_SECONDS):
                session = await self._access.admit(_token_in(auth), address)
        except (HubError, TimeoutError) as error:
            code = error.code if isinstance(error, HubError) else "unavailable"
            log.info("dashboard refused", address=address, reason=str(error))
            raise refused(str(code), str(error)) from error
        if self._server.get_environ(socket_id) is not environ:
            raise refused(UNAVAILABLE, "the connection went while it was let in")  # of such a one no disconnect is told
        principal = session.principal
        self._check_room_for(principal)
        self._clients[socket_id] = Client(session)
        self._sockets_of[_holder_of(principal)] += 1
        prove(environ["aiohttp.request"])
        line = self._sockets.line_of(socket_id)
        line.confirms = partial(self._confirmed, socket_id)
        self._lines.open(socket_id, line)
        self._show(socket_id, principal)
        log.info("dashboard connected", username=principal.username, socket_id=socket_id)

    def _check_room_for(self, principal: Principal) -> None:
        """Raises SocketRefused when the hub, or this person or key, has all the sockets it may have."""
        if len(self._clients) >= CLIENTS_MAX:
            raise refused(UNAVAILABLE, "too many dashboards; try again later")
        if self._sockets_of[_holder_of(principal)] >= SOCKETS_EACH_MAX:
            holder = "you have" if principal.api_key_id is None else "this API key has"
            raise refused(
                UNAVAILABLE, f"{holder} {SOCKETS_EACH_MAX} open connections, no more are allowed: close some first"
            )

    def _forget(self, socket_id: str) -> Client | None:
        client = self._clients.pop(socket_id, None)
        if client is not None:
            holder = _holder_of(client.principal)
            self._sockets_of[holder] -= 1
            if not self._sockets_of[holder]:
                del self._sockets_of[holder]
        return client

    def _show(self, socket_id: str, principal: Principal) -> None:
        """Let a client hear what its person may hear."""
        for room in rooms_of(principal):
            self._lines.enter(socket_id, room)
        self._tell_status(socket_id, principal)

    def _tell_status(self, socket_id: str, principal: Principal) -> None:
        """Tell what a client starts from, or goes on from when it has missed something."""
        if permits(principal, Permission.FLEET_READ):
            self._lines.tell_one(self._announcer.status(principal.organisation_id), socket_id)

    async def _disconnect(self, socket_id: str, *arguments: Any) -> Any:
        if self._sockets.is_here(socket_id):
            return await self._operation("disconnect", socket_id, *arguments)  # an event that a client named so
        client = self._forget(socket_id)
        if client is not None:
            self._feed.drop(socket_id)
            self._sockets.note_gone(self._lines.open_lines[socket_id], self._clock.monotonic())
            self._lines.close(socket_id)
            log.info("dashboard disconnected", socket_id=socket_id, reason=arguments[0] if arguments else "")
        return None

    def _confirmed(self, socket_id: str, text: str) -> bool:
        """Take a client's word that it has drawn a frame, past the library: there is one a tick from each client.

        Returns False for anything else. One that comes too soon after many others counts for nothing.
        """
        client = self._clients.get(socket_id)
        if client is None or not text.startswith(CONFIRMATION, 1) or self._is_signed_out(client):
            return False
        try:
            _, confirmation = _confirmation.decode(text[2:])
        except msgspec.MsgspecError:
            return False
        with suppress(RateLimited):
            self._pace.spend_acknowledgement(socket_id)
            self._feed.acknowledge(socket_id, confirmation.version)
        return True

    def _is_signed_out(self, client: Client) -> bool:
        return client.standing.is_over or client.session.expires_at <= self._clock.now()

    async def _operation(self, name: str, *arguments: Any) -> Any:
        """Answer an operation. An isolated request: whatever fails in it is logged there and told as `internal`."""
        if name in self._clients:  # an event that a client named "*": the library then gives no name
            name, arguments = "*", (name, *arguments)
        socket_id, body = arguments[0], arguments[1] if len(arguments) > 1 else None
        client = self._clients.get(socket_id)
        try:
            if client is None:
                raise Unauthenticated("sign in first")
            await self._hear_news()
            is_gone = self._clients.get(socket_id) is not client  # while the news was heard
            if is_gone or self._is_signed_out(client):
                raise signed_out()
            self._pace.spend(client.principal, socket_id, name)
            if name == REFRESH:
                return await self._renew(socket_id, client, body)
            caller = Caller(client.principal, socket_id, client.session.session_id)
            return await self._operations.ask(caller, name, body)
        except Exception as error:  # noqa: BLE001  one request is isolated; faults.py logs what it does not know
            return refusal_of(error)

    async def _renew(self, socket_id: str, client: Client, body: Any) -> AuthRefreshReply:
        """Go on with another token of the same person. One who set up a second factor since has all rights now."""
        request = request_of(REFRESH, body)
        assert isinstance(request, AuthRefresh)
        session = await self._access.session_of(request.token)
        before = client.principal
        is_raised = before.is_limited and not session.principal.is_limited
        if session.principal != (structs.replace(before, is_limited=False) if is_raised else before):
            # The rooms of this socket were chosen for what it was.
            raise Unauthenticated("the new token is for another person or role; connect again with it")
        client.session = session
        if is_raised:
            self._show(socket_id, session.principal)
        return AuthRefreshReply(expires_in_sec=int((session.expires_at - self._clock.now()).total_seconds()))

    def _cut(self, tasks: asyncio.TaskGroup, reason: str, socket_ids: Iterable[str]) -> None:
        """End these sockets, all at a time: each is told, and has a moment to close by itself."""
        for socket_id in socket_ids:
            if socket_id not in self._leaving:
                self._leaving.add(socket_id)
                log.info("dashboard cut off", socket_id=socket_id, reason=reason)
                tasks.create_task(self._hang_up(socket_id), name=f"hang-up-{socket_id}")

    async def _hang_up(self, socket_id: str) -> None:
        try:
            await self._sockets.hang_up(socket_id)
        finally:
            self._leaving.discard(socket_id)

    async def _cut_strangers(self) -> None:
        """Close connections that have not signed in in time."""
        now = self._clock.monotonic()
        strangers = [engine_id for engine_id in self._sockets.engine_ids() if not self.is_signed_in(engine_id)]
        self._strangers = {engine_id: self._strangers.get(engine_id, now) for engine_id in strangers}
        surplus = len(strangers) - STRANGERS_MAX
        for engine_id, since in list(self._strangers.items()):
            if now - since > SIGN_IN_TIMEOUT_SECONDS or surplus > 0:
                surplus -= 1
                await self._sockets.end(engine_id)


def _holder_of(principal: Principal) -> str:
    return principal.api_key_id or principal.user_id


def _token_in(auth: Any) -> str:
    token = auth.get("token") if isinstance(auth, dict) else None
    if not isinstance(token, str):
        raise Unauthenticated("connect with auth: {token}; the token comes from POST /api/v1/auth/sign-in")
    return token
