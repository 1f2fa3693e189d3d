"""An agent's connection without a network: what the hub writes to it, and how full it is, is the test's."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import WSMessage, WSMsgType

from hub_server.gateway.agents.agent_socket import AgentSocket, Taker
from hub_server.gateway.agents.session import AgentSession, FrameHandler, Origin
from hub_server.pauses import PauseMeter
from protocol.codec import decode_hub_frame
from protocol.enumerations import ConnectionReason
from protocol.frames import AgentFrame, HubFrame, Metrics
from protocol.identity import AgentIdentity
from tests.clocks import FakeClock

IDENTITY = AgentIdentity("jtnt", "org", "agent")


class FakePeer:
    """The WebSocket and its transport in one. `unread`: it takes nothing, so that what is written piles up."""

    def __init__(self, *, unread: bool = False) -> None:
        self.frames: list[HubFrame] = []
        self.pings = 0
        self.close_code: int | None = None
        self.closed = False
        self.aborted = False
        self.answers_close = True
        self._unread = unread
        self._taker: Taker | None = None
        self._unsent_bytes = 0
        self._incoming: asyncio.Queue[WSMessage] = asyncio.Queue(1000)

    def say(self, data: str | bytes, kind: WSMsgType = WSMsgType.TEXT) -> None:
        if self._taker is not None and isinstance(data, str) and self._taker(data):
            return
        self._incoming.put_nowait(WSMessage(kind, data, None))

    def go_away(self) -> None:
        self._incoming.put_nowait(WSMessage(WSMsgType.CLOSED, None, None))

    async def receive(self) -> WSMessage:
        message = await self._incoming.get()
        self.closed = message.type is WSMsgType.CLOSED
        return message

    def offer_to(self, taker: Taker | None) -> None:
        self._taker = taker

    def write(self, data: bytes) -> None:
        if self._unread:
            self._unsent_bytes += len(data)
        self.frames.append(decode_hub_frame(text_of(data)))

    async def ping(self) -> None:
        self.pings += 1

    async def pong(self, _data: bytes) -> None: ...

    async def close(self, *, code: int, message: bytes) -> None:
        assert message
        self.close_code = int(code)
        if not self.answers_close:
            await asyncio.Event().wait()
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


class Recorded:
    """A handler that notes what it is given and answers nothing. `taken`: what it was given as it was read."""

    def __init__(self) -> None:
        self.frames: list[AgentFrame] = []
        self.taken: list[AgentFrame] = []
        self.came = asyncio.Event()

    def take(self, _session: AgentSession, frame: AgentFrame) -> bool:
        if not isinstance(frame, Metrics):
            return False
        self.taken.append(frame)
        self.frames.append(frame)
        return True

    async def handle(self, _session: AgentSession, frame: AgentFrame) -> list[HubFrame]:
        self.frames.append(frame)
        self.came.set()
        return []


def text_of(data: bytes) -> bytes:
    """Return the text of a server's frame."""
    assert data[0] == 0x81
    return data[{126: 4, 127: 10}.get(data[1], 2) :]


def session_with(
    peer: FakePeer, pauses: PauseMeter | None = None, *, serial: str = "01", address: str = "192.0.2.1"
) -> AgentSession:
    pauses = pauses or PauseMeter(FakeClock(), lambda _seconds: None)
    socket: Any = peer
    origin = Origin(IDENTITY, serial, b"key", address)
    return AgentSession(f"session-{serial}", origin, cast("AgentSocket", socket), peer, pauses)


async def ending_of(session: AgentSession, handler: FrameHandler | None = None) -> ConnectionReason:
    """Serve `session` until it ends, which must be soon, and return why it did."""
    async with asyncio.timeout(30):
        return await session.run(handler or Recorded())


def lived(clock: FakeClock, pauses: PauseMeter, seconds: float) -> None:
    """Let time pass for a hub that runs all the while."""
    for _ in range(round(seconds * 2)):
        clock.advance(0.5)
        pauses.tick()
