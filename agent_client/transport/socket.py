"""The WebSocket under a session: frames in, frames out, each with a deadline. The only file that knows the library."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.typing import Subprotocol

from agent_client.clock import Clock
from agent_client.config import Config
from agent_client.errors import AgentError
from agent_client.transport.endings import (
    ABNORMAL_CLOSURE,
    CertificateRefused,
    Closed,
    Ending,
    HttpRefused,
    Unanswered,
    Unreachable,
)
from agent_client.transport.tls import ending_of
from agent_client.version import AGENT_VERSION
from protocol.codec import encode
from protocol.frames import AgentFrame
from protocol.limits import FRAME_MAX_BYTES, SUBPROTOCOL

RECEIVED_MAX_BYTES: Final = 4 * FRAME_MAX_BYTES
_QUEUE_FRAMES: Final = 8

_quiet: Final = logging.getLogger("websockets.client")


class SessionEnded(AgentError):
    """A session or an attempt at one is over."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


class Socket:
    """An open WebSocket. Every call raises SessionEnded once the connection is gone."""

    def __init__(self, connection: ClientConnection, clock: Clock, send_timeout_seconds: float) -> None:
        self.last_received_monotonic = clock.monotonic()
        self._connection = connection
        self._clock = clock
        self._send_timeout_seconds = send_timeout_seconds

    async def send(self, frame: AgentFrame) -> None:
        try:
            async with asyncio.timeout(self._send_timeout_seconds):
                await self._connection.send(encode(frame), text=True)
        except TimeoutError:
            self.abort()
            raise SessionEnded(Closed(ABNORMAL_CLOSURE, "the hub does not read")) from None
        except ConnectionClosed as error:
            raise SessionEnded(_closing(error)) from error

    async def receive(self) -> bytes:
        """Wait without a deadline: whoever calls has one, or a watchdog on `last_received_monotonic`."""
        try:
            message = await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            raise SessionEnded(_closing(error)) from error
        self.heard()
        return message

    def heard(self) -> None:
        self.last_received_monotonic = self._clock.monotonic()

    async def finish(self, timeout_seconds: float) -> None:
        """Close in good order. What the hub sent before it closes too can be received until then, or the timeout."""
        self._connection.close_timeout = timeout_seconds
        await self._connection.close()

    def abort(self) -> None:
        """Drop the connection without a word: the other side does not listen any more."""
        self._connection.transport.abort()


@asynccontextmanager
async def open_socket(config: Config, context: ssl.SSLContext, clock: Clock) -> AsyncIterator[Socket]:
    """Open a session's socket; it is closed at the end of the block. Raises SessionEnded when none can be opened."""
    tried = _Tried()
    try:
        connection = await connect(
            config.websocket_url,
            ssl=context,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None,
            user_agent_header=f"jtnt-agent/{AGENT_VERSION}",
            max_size=RECEIVED_MAX_BYTES,
            max_queue=_QUEUE_FRAMES,
            ping_interval=None,
            open_timeout=config.open_timeout_seconds,
            close_timeout=config.close_timeout_seconds,
            logger=_quiet,
            create_connection=cast("type[ClientConnection]", tried.make),
        )
    except (OSError, TimeoutError, ssl.SSLError, WebSocketException) as error:
        raise SessionEnded(_failure(error, tried)) from error
    try:
        if connection.subprotocol != SUBPROTOCOL:
            raise SessionEnded(Unreachable(f"the hub does not speak {SUBPROTOCOL}"))
        yield Socket(connection, clock, config.send_timeout_seconds)
    finally:
        await connection.close()


class _Tried:
    """Remembers the connection of an attempt.

    In TLS 1.3 the alert that refuses our certificate comes after the handshake; the library then says no more than that
    the connection was closed, but the connection itself knows why.
    """

    def __init__(self) -> None:
        self._connection: ClientConnection | None = None

    def make(self, *arguments: Any, **settings: Any) -> ClientConnection:
        self._connection = ClientConnection(*arguments, **settings)
        return self._connection

    @property
    def fault(self) -> BaseException | None:
        return self._connection.connection_exc if self._connection else None


def _failure(error: Exception, tried: _Tried) -> Ending:
    match error:
        case InvalidStatus(response=response):
            return HttpRefused(response.status_code, _seconds(response.headers.get("Retry-After")))
        case InvalidURI():
            return Unreachable(f"websocket_url is no address: {error}")
        case TimeoutError():
            return Unreachable("no answer in time")
        case InvalidMessage(__cause__=EOFError()) if tried.fault is None:
            return Unanswered()
        case InvalidHandshake():
            return ending_of(tried.fault or error)
        case _:
            return ending_of(error)


def _closing(error: ConnectionClosed) -> Ending:
    if error.rcvd is not None:
        return Closed(error.rcvd.code, error.rcvd.reason)
    ending = ending_of(error)
    if isinstance(ending, CertificateRefused):
        return ending
    return Closed(ABNORMAL_CLOSURE, str(error.__cause__ or "connection lost"))


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdecimal() else None
