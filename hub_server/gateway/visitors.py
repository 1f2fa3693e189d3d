"""An HTTP connection that knows what it waits for, so that a sweep can end it in time.

aiohttp bounds an idle connection and what it lingers for; half-sent headers, slow bodies, answers that nobody reads and
upgraded sockets that say nothing have no bound of their own there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from hub_server.gateway.admission import Admission, Guest
from hub_server.gateway.rest.guard import Handler, malformed
from protocol.limits import DASHBOARD_SOCKET_PATH

HANDLER_SECONDS: Final = 60.0  # longer than a long poll
ANSWER_SECONDS: Final = 60.0
SOCKET_SECONDS: Final = 30.0  # longer than the sockets' own deadlines for a hello or a sign-in
CLOSING_SECONDS: Final = 3.0
LINGER_SECONDS: Final = 2.0
END_SECONDS: Final = 1.0
HEADERS_MAX: Final = 64
HEADER_MAX_BYTES: Final = 8190
SWEPT_LATER_SECONDS: Final = 1.0  # a handler that bounds its body's time itself answers before the sweep cuts


class Stage(StrEnum):
    """What a connection that is not proven is at."""

    HEADERS = "headers"
    BODY = "body"
    HANDLER = "handler"
    ANSWER = "answer"
    SOCKET = "socket"
    IDLE = "idle"
    CLOSING = "closing"


def stage_deadlines(*, headers_seconds: float, body_seconds: float, idle_seconds: float) -> Mapping[Stage, float]:
    """Return how long a connection may be at each stage, in seconds."""
    return {
        Stage.HEADERS: headers_seconds,
        Stage.BODY: body_seconds + SWEPT_LATER_SECONDS,
        Stage.HANDLER: HANDLER_SECONDS,
        Stage.ANSWER: ANSWER_SECONDS,
        Stage.SOCKET: SOCKET_SECONDS,
        Stage.IDLE: idle_seconds,
        Stage.CLOSING: CLOSING_SECONDS,
    }


class Visitors:
    """All connections of one listener. `deadlines`: how long one that is not proven may be at each stage."""

    def __init__(self, server: web.Server, admission: Admission, deadlines: Mapping[Stage, float]) -> None:
        self._server = server
        self._admission = admission
        self._deadlines = deadlines
        self._here: set[Visitor] = set()
        self._nobody_here = asyncio.Event()

    def receive(self, guest: Guest) -> Visitor:
        return Visitor(self._server, admission=self._admission, guest=guest, deadlines=self._deadlines, visitors=self)

    def came(self, visitor: Visitor) -> None:
        self._here.add(visitor)
        self._nobody_here.clear()

    def went(self, visitor: Visitor) -> None:
        self._here.discard(visitor)
        if not self._here:
            self._nobody_here.set()

    async def end(self) -> None:
        """Cut off whoever is still there: nobody is waited for to say goodbye."""
        for visitor in list(self._here):
            visitor.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS if self._here else 0):
                await self._nobody_here.wait()


class Visitor(web.RequestHandler):
    """A guest of `admission` until `prove`, or until it is gone."""

    __slots__ = ("_admission", "_connection", "_deadlines", "_guest", "_stage", "_stage_since", "_visitors")

    def __init__(
        self,
        server: web.Server,
        *,
        admission: Admission,
        guest: Guest,
        deadlines: Mapping[Stage, float],
        visitors: Visitors,
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # none at all, as web.AppRunner takes it too
            keepalive_timeout=deadlines[Stage.IDLE],
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            max_headers=HEADERS_MAX,
            max_field_size=HEADER_MAX_BYTES,
            max_line_size=HEADER_MAX_BYTES,
        )
        self._admission = admission
        self._guest = guest
        self._deadlines = deadlines
        self._visitors = visitors
        self._connection: asyncio.Transport | None = None
        self._stage: tuple[Stage, int] = Stage.HEADERS, 0
        self._stage_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection = cast("asyncio.Transport", transport)  # uvloop's own are not derived from it
        self._stage_since = self._admission.active_seconds()
        self._guest.occupant = self
        self._visitors.came(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._admission.leave(self._guest)
        self._visitors.went(self)
        super().connection_lost(exc)

    def prove(self) -> None:
        self._admission.leave(self._guest)

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def idle_since(self) -> float | None:
        self._note_stage()
        return self._stage_since if self._stage[0] is Stage.IDLE else None

    def overdue(self, now: float) -> str | None:
        self._note_stage()
        stage, _ = self._stage
        return stage.value if now - self._stage_since >= self._deadlines[stage] else None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP without a word in the log: anybody may send it, and it may hold anything."""
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        return malformed()

    def _note_stage(self) -> None:
        """A stage begins anew with each request."""
        stage = self._stage_now(), self._request_count
        if stage != self._stage:
            self._stage = stage
            self._stage_since = self._admission.active_seconds()

    def _stage_now(self) -> Stage:
        if self._connection is None or self._connection.is_closing():
            return Stage.CLOSING
        if self._request_in_progress:
            return self._stage_of_request()
        if self._waiter is None:
            return Stage.BODY  # answered before all of the body was there: what is left is read and thrown away
        return Stage.IDLE if self._request_count else Stage.HEADERS

    def _stage_of_request(self) -> Stage:
        request = self._current_request
        if request is None:
            return Stage.ANSWER
        if self._payload_parser is not None:
            return Stage.SOCKET
        return Stage.HANDLER if request.content.is_eof() else Stage.BODY


def signed_in_proven(is_signed_in: Callable[[str], bool]) -> Middleware:
    """Return a middleware that proves whoever speaks in a signed-in Socket.IO session, on whatever connection."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(DASHBOARD_SOCKET_PATH) and is_signed_in(request.query.get("sid", "")):
            prove(request)
        return await handler(request)

    return guard


def prove(request: web.Request) -> None:
    """Count the connection of `request` as its peer's own from now on: it has shown who it is."""
    if isinstance(request.protocol, Visitor):
        request.protocol.prove()
