"""Socket.IO as the hub serves it. Alone knows the library, and bounds what it leaves without a bound."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import engineio
import msgspec
import socketio
import structlog
from aiohttp import WSMsgType, web
from socketio.exceptions import ConnectionRefusedError as SocketRefused

from hub_server.gateway.dashboards.dashboard_socket import DashboardSocket
from hub_server.gateway.dashboards.line import Bounds, Line, Traffic
from hub_server.gateway.rest.origins import Origins
from protocol.limits import DASHBOARD_SOCKET_PATH, FRAME_MAX_BYTES

log = structlog.get_logger(component="dashboards")

PING_SECONDS: Final = 25
PONG_SECONDS: Final = 20
END_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 3.0
LEFTOVER_SECONDS: Final = 5.0
GOODBYE_SECONDS: Final = 0.25
"""How long a client that is cut off has to hear why and close by itself."""
BINARY: Final = ("5", "6")
"""Socket.IO packets that announce attachments, which the library would keep without a bound."""


def refused(code: str, message: str) -> SocketRefused:
    """Return what a connect handler raises to turn a client away."""
    return SocketRefused(code, {"code": code, "message": message})


class Sockets:
    """Connections of clients, by the library's ids: one of the engine's for each, one for each that came to sign in."""

    def __init__(self, origins: Origins, traffic: Traffic, bounds: Bounds) -> None:
        self._origins = origins
        self._gone: dict[Line, float] = {}
        self.server = _Server(
            async_mode="aiohttp",
            json=Json,
            cors_allowed_origins=self._admits,
            cors_credentials=False,
            max_http_buffer_size=FRAME_MAX_BYTES,
            http_compression=False,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            bounds=bounds,
            traffic=traffic,
        )

    def attach(self, application: web.Application) -> None:
        self.server.attach(application, socketio_path=DASHBOARD_SOCKET_PATH)

    def socket_of(self, engine_id: str) -> str | None:
        socket_id: str | None = self.server.manager.sid_from_eio_sid(engine_id, "/")
        return socket_id

    def engine_ids(self) -> Iterable[str]:
        return list(self.server.eio.sockets)

    def line_of(self, socket_id: str) -> Line:
        """Return the line of a client that is connected."""
        line: Line = self.server.eio.sockets[self._engine_of(socket_id)].queue
        return line

    def note_gone(self, line: Line, now: float) -> None:
        """The client of this line is signed out; its connection has until `end_leftovers` to end."""
        self._gone[line] = now

    def end_leftovers(self, now: float) -> None:
        """Break off connections that still hold what a client that is gone does not take: nobody else would."""
        for line, since in list(self._gone.items()):
            if now - since > LEFTOVER_SECONDS:
                del self._gone[line]
                if line.is_stuck:
                    line.break_off()

    def is_here(self, socket_id: str) -> bool:
        """Whether the client's `disconnect` is yet to come."""
        return bool(self.server.manager.is_connected(socket_id, "/"))

    async def hang_up(self, socket_id: str) -> None:
        """End a connection: the client is told, and has a moment to close by itself."""
        engine_id = self._engine_of(socket_id)
        engine_socket = self.server.eio.sockets.get(engine_id)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self.server.disconnect(socket_id)
                    if engine_socket is not None:
                        engine_socket.queue.put_nowait(None)  # the last packet: whoever writes closes then
                        await engine_socket.close()
        finally:
            await self.server.end(engine_id, engine_socket)

    async def break_off(self, socket_id: str) -> None:
        await self.end(self._engine_of(socket_id))

    async def end(self, engine_id: str) -> None:
        """End a connection without its help: the library's own close waits until the peer has read all it was sent."""
        await self.server.end(engine_id, self.server.eio.sockets.get(engine_id))

    def _engine_of(self, socket_id: str) -> str:
        engine_id: str = self.server.manager.eio_sid_from_sid(socket_id, "/")
        return engine_id

    def _admits(self, origin: str | None, environ: dict[str, Any]) -> bool:
        return self._origins.admits(origin, environ["aiohttp.request"])


class Json:
    """What python-socketio asks of a JSON module: text out, so that structs are encoded once and in C."""

    @staticmethod
    def dumps(value: Any, **_options: Any) -> str:
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_options: Any) -> Any:
        return msgspec.json.decode(text)


class _Server(socketio.AsyncServer):  # type: ignore[misc]  # it has no types
    """Takes no attachments: no operation has one."""

    async def end(self, engine_id: str, engine_socket: Any) -> None:
        if engine_socket is None:
            return
        engine_socket.queue.break_off()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await engine_socket.close(wait=False, abort=True)
        self.eio.sockets.pop(engine_id, None)

    def _engineio_server_class(self) -> type[_Engine]:
        return _Engine

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if isinstance(data, bytes) or (isinstance(data, str) and data.startswith(BINARY)):
            log.info("dashboard cut off", reason="attachments are not taken")
            await self.end(eio_sid, self.eio.sockets.get(eio_sid))
            return
        await super()._handle_eio_message(eio_sid, data)


class _Engine(engineio.AsyncServer):  # type: ignore[misc]  # it has no types
    def __init__(self, *, bounds: Bounds, traffic: Traffic, **options: Any) -> None:
        super().__init__(**options)
        self.bounds = bounds
        self._traffic = traffic
        self._async: dict[str, Any] = {**self._async, "websocket": _WebSocket}

    def create_queue(self, *_arguments: Any, **_options: Any) -> Line:
        return Line(self.bounds, self._traffic)

    async def handle_request(self, request: web.Request) -> Any:
        asked_for = self.sockets.get(request.query.get("sid", ""))
        if asked_for is not None and request.method == "GET":
            asked_for.queue.polled(request.transport)
        return await super().handle_request(request)


class _WebSocket:
    """engine.io's driver of aiohttp. It compresses nothing; a message that is not text ends the connection."""

    def __init__(self, handler: Any, engine: _Engine) -> None:
        """`handler`: a method of the engine's socket, which reads and writes through this."""
        self._handler = handler
        self._engine_socket = handler.__self__
        self._line: Line = self._engine_socket.queue
        self._bounds = engine.bounds
        self._socket = DashboardSocket(
            self._taken,
            max_msg_size=engine.max_http_buffer_size,
            writer_limit=0,  # a write waits whenever the transport is full
            timeout=CLOSE_SECONDS,
        )

    @property
    def is_open(self) -> bool:
        engine_socket, websocket = self._engine_socket, self._socket
        return (
            engine_socket.upgraded
            and not engine_socket.closed
            and not websocket.closed
            and websocket.close_code is None
        )

    @property
    def takes_compressed(self) -> bool:
        return self._socket.takes_compressed

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        request: web.Request = environ["aiohttp.request"]
        transport = request.transport
        if transport is not None:
            transport.set_write_buffer_limits(high=self._bounds.written_bytes)
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._bounds.kernel_bytes)
        await self._socket.prepare(request)
        self._line.joined(self, transport)
        await self._handler(self)
        return self._socket

    async def send(self, text: str) -> None:
        await self._socket.send_str(text)

    async def wait(self) -> str:
        """Return the next text that is not for the line itself. Raises OSError when the connection has ended."""
        message = await self._socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise OSError("the connection has ended")
        text: str = message.data
        return text

    async def close(self) -> None:
        await self._socket.close()

    def _taken(self, text: str) -> bool:
        return self._line.confirms(text)
