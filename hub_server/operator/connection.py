"""One signed-in WebSocket to a hub: questions, their answers, and what the hub tells. The only file that knows the
library.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from msgspec import Raw
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from hub_server.operator import packets
from hub_server.operator.address import Anchors, HubAddress
from hub_server.operator.doors import untrusted
from hub_server.operator.errors import AnswerLost, NotConnected, NotSignedIn, NotTrusted, Refused
from hub_server.operator.packets import BadPacket
from protocol.codes import ErrorCode
from protocol.enrollment import ErrorBody
from protocol.limits import SIGN_IN_TIMEOUT_SECONDS
from protocol.requests import Request

OPEN_DEADLINE_SECONDS: Final = 15.0
CLOSE_DEADLINE_SECONDS: Final = 1.0
MESSAGE_MAX_BYTES: Final = 64 * 1024 * 1024
"""A page of a thousand commands may be megabytes."""
MESSAGES_HELD: Final = 16
WAITING_MAX: Final = 1000
NEVER_ENDING: Final = "the hub ended the connection"


class Connection:
    """`heard` is told each event as it comes, and must not take long."""

    def __init__(
        self, websocket: ClientConnection, *, silence_seconds: float, heard: Callable[[packets.Heard], None]
    ) -> None:
        self._websocket = websocket
        self._silence_seconds = silence_seconds
        self._heard = heard
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Raw]] = {}
        self._is_over = False

    async def ask(self, operation: str, request: Request) -> Raw:
        """Return the JSON of the reply or the refusal. Raises AnswerLost when the connection ends before it."""
        if self._is_over or len(self._waiting) >= WAITING_MAX:
            raise AnswerLost("the connection is gone, or too much is asked on it at once")
        number = next(self._numbers)
        answer: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            with suppress(ConnectionClosed):  # `listen` ends then, and whatever waits for an answer with it
                await self._websocket.send(packets.question_packet(number, operation, request))
            return await answer
        finally:
            self._waiting.pop(number, None)

    async def listen(self) -> str:
        """Take what comes until the connection has ended; return why it did."""
        try:
            return await self._listen()
        except ConnectionClosed as error:
            return str(error)
        except TimeoutError:
            return f"nothing came for {self._silence_seconds:g} s"
        except BadPacket as error:
            return str(error)
        finally:
            self._is_over = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(AnswerLost("the connection to the hub went before it had answered"))

    async def close(self) -> None:
        await self._websocket.close()

    async def _listen(self) -> str:
        while True:
            match await _received(self._websocket, self._silence_seconds):
                case packets.Ping():
                    await self._websocket.send(packets.PONG)
                case packets.Heard() as event:
                    self._heard(event)
                case packets.Answered(number=number, body=body):
                    answer = self._waiting.get(number)
                    if answer is not None and not answer.done():
                        answer.set_result(body)
                case packets.Parted():
                    return NEVER_ENDING
                case _:
                    pass


@asynccontextmanager
async def opened(
    address: HubAddress, anchors: Anchors, *, token: str, heard: Callable[[packets.Heard], None]
) -> AsyncIterator[Connection]:
    """Open a connection and sign in; it is closed with the block.

    Raises NotSignedIn when the token is refused, Refused when the hub lets nobody in now, NotTrusted, or NotConnected.
    """
    websocket = await _upgraded(address, anchors)
    try:
        silence_seconds = await _admitted(websocket, token)
        yield Connection(websocket, silence_seconds=silence_seconds, heard=heard)
    finally:
        await websocket.close()


async def _upgraded(address: HubAddress, anchors: Anchors) -> ClientConnection:
    try:
        return await connect(
            address.socket_url,
            ssl=anchors.context() if address.is_https else None,
            compression=None,
            max_size=MESSAGE_MAX_BYTES,
            max_queue=MESSAGES_HELD,
            ping_interval=None,
            open_timeout=OPEN_DEADLINE_SECONDS,
            close_timeout=CLOSE_DEADLINE_SECONDS,
            proxy=None,
            user_agent_header="jtnt",
        )
    except ssl.SSLCertVerificationError as error:
        raise NotTrusted(untrusted(address, anchors, error.verify_message)) from error
    except InvalidStatus as error:
        status = error.response.status_code
        raise NotConnected(f"{address.url} does not answer like a hub (HTTP status {status})") from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise NotConnected(address.unreached(error)) from error


async def _admitted(websocket: ClientConnection, token: str) -> float:
    """Sign in; return after how many seconds of silence the connection is dead."""
    silence_seconds = OPEN_DEADLINE_SECONDS
    try:
        async with asyncio.timeout(OPEN_DEADLINE_SECONDS + SIGN_IN_TIMEOUT_SECONDS):
            while True:
                match await _received(websocket, silence_seconds):
                    case packets.Opened() as opening:
                        silence_seconds = opening.silence_seconds
                        await websocket.send(packets.sign_in_packet(token))
                    case packets.Ping():
                        await websocket.send(packets.PONG)
                    case packets.Admitted():
                        return silence_seconds
                    case packets.TurnedAway(error=error):
                        raise _reason_of(error)
                    case packets.Parted():
                        raise NotConnected(NEVER_ENDING)
                    case _:
                        pass
    except (ConnectionClosed, TimeoutError, BadPacket) as error:
        raise NotConnected(f"the hub did not let this client in: {str(error) or 'no answer in time'}") from error


def _reason_of(error: ErrorBody) -> NotSignedIn | Refused:
    return NotSignedIn(error.message) if error.code is ErrorCode.UNAUTHENTICATED else Refused.of(error)


async def _received(websocket: ClientConnection, silence_seconds: float) -> packets.Packet:
    """Raises TimeoutError after a silence, ConnectionClosed, or BadPacket."""
    async with asyncio.timeout(silence_seconds):
        return packets.read(await websocket.recv(decode=False))
