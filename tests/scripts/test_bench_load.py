"""The load generator's own WebSocket, against a server that is not ours."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from hub_server.bench.websocket import ClientSocket
from protocol.limits import AGENT_SOCKET_PATH, SUBPROTOCOL

DEADLINE_SECONDS = 5.0


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.socket: asyncio.Future[ClientSocket] = asyncio.get_running_loop().create_future()
        self.texts: asyncio.Queue[bytes] = asyncio.Queue(maxsize=100)
        self.ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def opened(self, socket: ClientSocket) -> None:
        self.socket.set_result(socket)

    def received(self, text: bytes) -> None:
        self.texts.put_nowait(text)

    def closed(self, code: int, reason: str) -> None:
        self.ending.set_result((code, reason))


async def echo(connection: ServerConnection) -> None:
    """Send back what comes; close when asked, after a ping that must be answered."""
    async for message in connection:
        if message == "close":
            await (await connection.ping())
            await connection.close(4403, "revoked")
            return
        await connection.send(message)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(echo, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=1 << 20) as server:
        yield server


async def connected(port: int) -> Heard:
    heard = Heard()
    await asyncio.get_running_loop().create_connection(lambda: ClientSocket(heard), "127.0.0.1", port)
    return heard


def port_of(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
async def test_frames_of_every_length_come_back_whole(server: Server, size: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        heard = await connected(port_of(server))
        socket = await heard.socket
        socket.send(b"x" * size)
        socket.send("ende ✓".encode())
        assert await heard.texts.get() == b"x" * size
        assert (await heard.texts.get()).decode() == "ende ✓"
        socket.abort()
        await heard.ending


async def test_a_ping_is_answered_and_a_close_is_told_with_its_code(server: Server) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        heard = await connected(port_of(server))
        (await heard.socket).send(b"close")
        assert await heard.ending == (4403, "revoked")


async def test_a_refused_upgrade_is_told_and_no_open_socket() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(f"GET {AGENT_SOCKET_PATH} ".encode())
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with asyncio.timeout(DEADLINE_SECONDS):
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            heard = await connected(server.sockets[0].getsockname()[1])
            _, reason = await heard.ending
            assert "401" in reason
            assert not heard.socket.done()
