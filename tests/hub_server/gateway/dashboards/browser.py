"""A browser on a bare socket: it reads only when told to, and then nothing is read ahead for it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

Json = dict[str, Any]
DEADLINE_SECONDS: Final = 60.0
RECEIVE_BYTES: Final = 4096
UPGRADE: Final = (
    b"GET /ws/agents/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
CONNECT: Final = '40{"token":"any"}'
TEXT, BINARY, CLOSE = 1, 2, 8


class Ended(Exception):
    """The hub has ended the connection."""


class Browser:
    """`headers`: what the hub answered the upgrade with."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.headers = b""

    async def upgrade(self) -> None:
        self._writer.write(UPGRADE)
        self.headers = await self._reader.readuntil(b"\r\n\r\n")
        assert self.headers.startswith(b"HTTP/1.1 101")

    def send(self, text: str, opcode: int = TEXT) -> None:
        payload, mask = text.encode(), os.urandom(4)
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0x80 | 126, len(payload))
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self._writer.write(bytes([0x80 | opcode]) + length + mask + masked)

    def tell(self, name: str, body: Json) -> None:
        self.send("42" + json.dumps([name, body]))

    async def ask(self, name: str, body: Json) -> Json:
        """Return the answer to an operation; events that come before it are passed over."""
        self.send("427" + json.dumps([name, body]))
        answer: Json = json.loads((await self.hear(lambda text: text.startswith("437")))[3:])[0]
        return answer

    async def take(self, name: str, match: Callable[[Json], bool] = lambda _: True) -> Json:
        """Return the next event of this name that matches; what comes before it is passed over."""
        start = f'42["{name}",'
        while True:
            event: Json = json.loads((await self.hear(lambda text: text.startswith(start)))[2:])[1]
            if match(event):
                return event

    async def hear(self, match: Callable[[str], bool] = lambda _: True) -> str:
        """Raises Ended."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                text = await self._frame()
                if text == "2":
                    self.send("3")
                elif match(text):
                    return text

    async def _frame(self) -> str:
        try:
            first, second = await self._reader.readexactly(2)
            if first & 0x0F == CLOSE:
                raise Ended
            assert first == 0x80 | TEXT, "the hub sends whole, uncompressed text messages"
            length = second
            if second == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif second == 127:
                (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
            return (await self._reader.readexactly(length)).decode()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Ended from error


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Browser]:
    """A browser with a WebSocket, before it has said who it is."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=deaf, limit=RECEIVE_BYTES)
        try:
            one = Browser(reader, writer)
            await one.upgrade()
            yield one
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def browsing(port: int) -> AsyncIterator[Browser]:
    """A browser that is signed in. What it is told at connect is yet to be read."""
    async with connected(port) as one:
        one.send(CONNECT)
        await one.hear(lambda text: text.startswith("40"))
        yield one
