"""The dashboards' Socket.IO server: sign-in at connect, operations, events. Alone knows the library."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec
import socketio
import structlog
from aiohttp import web
from msgspec import Struct, structs
from socketio.exceptions import ConnectionRefusedError as SocketRefused
from sqlalchemy.exc import SQLAlchemyError

from hub_server.access.model import Permission, Principal, permits
from hub_server.access.service import AccessService
from hub_server.access.standings import Session, Standing
from hub_server.access.tokens import signed_out
from hub_server.clock import Clock
from hub_server.errors import HubError, Unauthenticated
from hub_server.gateway.dashboards.announcer import Announcer
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.operations import Caller, Operations, request_of
from hub_server.gateway.dashboards.pace import Pace
from hub_server.gateway.dashboards.rooms import rooms_of
from hub_server.gateway.faults import refusal_of
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.rest.origins import Origins
from hub_server.gateway.visitors import prove
from protocol.events import DashboardEvent, name_of
from protocol.limits import (
    DASHBOARD_SOCKET_PATH,
    FRAME_MAX_BYTES,
    SEND_DEADLINE_DASHBOARD_SECONDS,
    SIGN_IN_TIMEOUT_SECONDS,
)
from protocol.operations import AuthRefresh, AuthRefreshReply

log = structlog.get_logger(component="dashboards")

SWEEP_SECONDS: Final = 0.4
SWEEP_DEADLINE_SECONDS: Final = 10.0
ABORT_DEADLINE_SECONDS: Final = 1.0
GOODBYE_SECONDS: Final = 0.25
"""How long a client that is cut off has to hear why and close by itself."""
QUEUED_PACKETS_USUAL: Final = 20
QUEUED_PACKETS_MAX: Final = 2000
STRANGERS_MAX: Final = 512
CLIENTS_MAX: Final = 5000
SOCKETS_EACH_MAX: Final = 200
"""Of one person's sign-ins together, and of each API key."""
REFRESH: Final = "auth:refresh"


class Json:
    """What python-socketio asks of a JSON module: text out, so that structs are encoded once and in C."""

    @staticmethod
    def dumps(value: Any, **_options: Any) -> str:
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_options: Any) -> Any:
        return msgspec.json.decode(text)


class Client(Struct):
    """A connected browser or script."""

    session: Session
    reading_at: float

    @property
    def principal(self) -> Principal:
        return self.session.principal

    @property
    def standing(self) -> Standing:
        return self.session.standing


class SocketRooms:
    """Rooms and events on the wire, for the feed and the announcer."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self.server = socketio.AsyncServer(
            async_mode="aiohttp",
            json=Json,
            cors_allowed_origins=self._admits,
            cors_credentials=False,
            max_http_buffer_size=FRAME_MAX_BYTES,
            http_compression=False,
            ping_interval=25,
            ping_timeout=20,
        )

    async def emit(self, event: DashboardEvent, to: str) -> None:
        await self.server.emit(name_of(event), event, to=to)

    async def enter(self, socket_id: str, room: str) -> None:
        await self.server.enter_room(socket_id, room)

    async def leave(self, socket_id: str, room: str) -> None:
        await self.server.leave_room(socket_id, room)

    def _admits(self, origin: str | None, environ: dict[str, Any]) -> bool:
        return self._origins.admits(origin, environ["aiohttp.request"])


class DashboardServer:
    def __init__(
        self,
        *,
        rooms: SocketRooms,
        clock: Clock,
        access: AccessService,
        operations: Operations,
        announcer: Announcer,
        feed: LiveFeed,
        pace: Pace,
        addresses: AddressReader | None = None,
    ) -> None:
        """`addresses`: where clients come from; without it each peer speaks for itself, proxies too."""
        self._server = rooms.server
        self._rooms = rooms
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
        self._server.on("connect", self._connect)
        self._server.on("disconnect", self._disconnect)
        self._server.on("*", self._operation)

    def attach(self, application: web.Application) -> None:
        self._server.attach(application, socketio_path=DASHBOARD_SOCKET_PATH)

    @property
    def client_count(self) -> int:
        return len(self._clients)

    def is_signed_in(self, engine_id: str) -> bool:
        """Tell whether the engine.io session of this id has a person's sign-in."""
        return self._server.manager.sid_from_eio_sid(engine_id, "/") in self._clients

    async def run(self) -> None:
        """Cut off clients whose sign-in has ended or run out, and those that stopped reading.

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
            if socket_id not in self._leaving and self._does_not_read(socket_id, client):
                log.info("dashboard cut off", socket_id=socket_id, reason="does not read")
                await self._abort(self._server.manager.eio_sid_from_sid(socket_id, "/"))
        await self._cut_strangers()

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
            raise SocketRefused(str(code), {"code": str(code), "message": str(error)}) from error
        if self._server.get_environ(socket_id) is not environ:
            raise _unavailable("the connection went while it was let in")  # of such a one no disconnect is told
        principal = session.principal
        self._check_room_for(principal)
        self._clients[socket_id] = Client(session, self._clock.monotonic())
        self._sockets_of[_holder_of(principal)] += 1
        prove(environ["aiohttp.request"])
        self._feed.join_unsubscribed(principal.organisation_id)
        await self._show(socket_id, principal)
        log.info("dashboard connected", username=principal.username, socket_id=socket_id)

    def _check_room_for(self, principal: Principal) -> None:
        """Raises SocketRefused when the hub, or this person or key, has all the sockets it may have."""
        if len(self._clients) >= CLIENTS_MAX:
            raise _unavailable("too many dashboards; try again later")
        if self._sockets_of[_holder_of(principal)] >= SOCKETS_EACH_MAX:
            holder = "you have" if principal.api_key_id is None else "this API key has"
            raise _unavailable(f"{holder} {SOCKETS_EACH_MAX} open connections, no more are allowed: close some first")

    def _forget(self, socket_id: str) -> Client | None:
        client = self._clients.pop(socket_id, None)
        if client is not None:
            holder = _holder_of(client.principal)
            self._sockets_of[holder] -= 1
            if not self._sockets_of[holder]:
                del self._sockets_of[holder]
        return client

    async def _show(self, socket_id: str, principal: Principal) -> None:
        """Let a client hear what its person may hear."""
        for room in rooms_of(principal):
            await self._server.enter_room(socket_id, room)
        if permits(principal, Permission.FLEET_READ):
            await self._rooms.emit(self._announcer.status(principal.organisation_id), socket_id)

    async def _disconnect(self, socket_id: str, *arguments: Any) -> Any:
        if self._server.manager.is_connected(socket_id, "/"):
            return await self._operation("disconnect", socket_id, *arguments)  # an event that a client named so
        client = self._forget(socket_id)
        if client is not None:
            await self._feed.drop(socket_id, client.principal.organisation_id)
            log.info("dashboard disconnected", socket_id=socket_id, reason=arguments[0] if arguments else "")
        return None

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
            if is_gone or client.standing.is_over or client.session.expires_at <= self._clock.now():
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
            await self._show(socket_id, session.principal)
        return AuthRefreshReply(expires_in_sec=int((session.expires_at - self._clock.now()).total_seconds()))

    def _cut(self, tasks: asyncio.TaskGroup, reason: str, socket_ids: Iterable[str]) -> None:
        """End these sockets, all at a time: each is told, and has a moment to close by itself."""
        for socket_id in socket_ids:
            if socket_id not in self._leaving:
                self._leaving.add(socket_id)
                log.info("dashboard cut off", socket_id=socket_id, reason=reason)
                tasks.create_task(self._hang_up(socket_id), name=f"hang-up-{socket_id}")

    async def _hang_up(self, socket_id: str) -> None:
        engine_id = self._server.manager.eio_sid_from_sid(socket_id, "/")
        transport = self._transport_of(engine_id)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._server.disconnect(socket_id)
                    engine_socket = self._server.eio.sockets.get(engine_id)
                    if engine_socket is not None:
                        engine_socket.queue.put_nowait(None)  # the last packet: whoever writes closes then
                        await engine_socket.close()
        finally:
            self._leaving.discard(socket_id)
            await self._abort(engine_id, transport)

    def _transport_of(self, engine_id: str) -> asyncio.Transport | None:
        environ = self._server.environ.get(engine_id)
        request: web.Request | None = environ["aiohttp.request"] if environ else None
        return request.transport if request is not None else None

    async def _abort(self, engine_id: str, transport: asyncio.Transport | None = None) -> None:
        """End a connection without its help: the library's own close waits until the peer has read all it was sent."""
        transport = transport or self._transport_of(engine_id)
        if transport is not None:
            transport.abort()
        engine_socket = self._server.eio.sockets.get(engine_id)
        if engine_socket is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(ABORT_DEADLINE_SECONDS):
                    await engine_socket.close(wait=False, abort=True)
            self._server.eio.sockets.pop(engine_id, None)

    def _does_not_read(self, socket_id: str, client: Client) -> bool:
        """A client that reads has an empty queue every now and then. engine.io's own has no bound."""
        engine_id = self._server.manager.eio_sid_from_sid(socket_id, "/")
        engine_socket = self._server.eio.sockets.get(engine_id)
        queued = engine_socket.queue.qsize() if engine_socket is not None else 0
        now = self._clock.monotonic()
        if queued <= QUEUED_PACKETS_USUAL:
            client.reading_at = now
        return queued > QUEUED_PACKETS_MAX or now - client.reading_at > SEND_DEADLINE_DASHBOARD_SECONDS

    async def _cut_strangers(self) -> None:
        """Close connections that have not signed in in time."""
        now = self._clock.monotonic()
        engine = self._server.eio
        known = {self._server.manager.eio_sid_from_sid(socket_id, "/") for socket_id in self._clients}
        strangers = [engine_id for engine_id in engine.sockets if engine_id not in known]
        self._strangers = {engine_id: self._strangers.get(engine_id, now) for engine_id in strangers}
        surplus = len(strangers) - STRANGERS_MAX
        for engine_id, since in list(self._strangers.items()):
            if now - since > SIGN_IN_TIMEOUT_SECONDS or surplus > 0:
                surplus -= 1
                await self._abort(engine_id)


def _holder_of(principal: Principal) -> str:
    return principal.api_key_id or principal.user_id


def _unavailable(message: str) -> SocketRefused:
    return SocketRefused("unavailable", {"code": "unavailable", "message": message})


def _token_in(auth: Any) -> str:
    token = auth.get("token") if isinstance(auth, dict) else None
    if not isinstance(token, str):
        raise Unauthenticated("connect with auth: {token}; the token comes from POST /api/v1/auth/sign-in")
    return token
