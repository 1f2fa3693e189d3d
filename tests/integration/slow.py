"""Clients that prove nothing and are slow with something, each in its own way."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Final

SIGN_IN: Final = b"POST /api/v1/auth/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ENROLL: Final = b"POST /api/v1/agent/enroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
NOWHERE: Final = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n"
LENGTH: Final = b"Content-Length: 5000\r\n\r\n{"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n1388\r\n{"
UPGRADE: Final = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
AGENT_UPGRADE: Final = b"GET /ws/agents HTTP/1.1\r\n" + UPGRADE + b"Sec-WebSocket-Protocol: jtnt.v1\r\n\r\n"
PERSON_UPGRADE: Final = b"GET /ws/agents/?EIO=4&transport=websocket HTTP/1.1\r\n" + UPGRADE + b"\r\n"
HALF_A_FRAME: Final = b"\x81\xfe\x10\x00\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class Slow:
    """Says `first` at once, then the bytes of `drip` one by one, over and over; nothing more when it is empty."""

    first: bytes = b""
    drip: bytes = b""

    async def met(
        self,
        port: int,
        address: str = "127.0.0.1",
        *,
        tls: ssl.SSLContext | None = None,
        pace_seconds: float = 1.0,
    ) -> Parting:
        """Connect from `address` and go on until the hub ends it. `tls` None: the bytes go straight into the TCP."""
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None, local_addr=(address, 0)
        )
        started, said = loop.time(), b""
        try:
            writer.write(self.first)
            drops = cycle(self.drip) if self.drip else None
            while True:
                try:
                    async with asyncio.timeout(pace_seconds):
                        heard = await reader.read(4096)
                except TimeoutError:
                    if drops is not None:
                        writer.write(bytes((next(drops),)))
                    continue
                if not heard:
                    break
                said += heard
        except (ConnectionError, ssl.SSLError) as ended:
            said += str(ended).encode()
        finally:
            writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
        return Parting(loop.time() - started, said)


@dataclass(frozen=True, slots=True)
class Parting:
    """How long the hub put up with a client, and what it said to it."""

    after_seconds: float
    said: bytes


def client_hello() -> bytes:
    """Return the first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


SILENT: Final = Slow()
SLOW_HANDSHAKE: Final = Slow(client_hello()[:1], client_hello()[1:])
HALF_A_HANDSHAKE: Final = Slow(client_hello())
SLOW_HEADERS: Final = Slow(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a")
ENDLESS_HEADERS: Final = Slow(b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: 1\r\n")
IDLE: Final = Slow(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
IDLE_AGENT: Final = Slow(b"GET /api/v1/agent/ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
SECOND_HEADERS: Final = Slow(IDLE.first + SLOW_HEADERS.first, b"a")
SLOW_SIGN_IN: Final = Slow(SIGN_IN + LENGTH, b" ")
SLOW_CHUNK: Final = Slow(SIGN_IN + CHUNKED, b" ")
SLOW_ENROLLMENT: Final = Slow(ENROLL + LENGTH, b" ")
UNWANTED_BODY: Final = Slow(NOWHERE + LENGTH, b" ")
NO_HELLO: Final = Slow(AGENT_UPGRADE)
HALF_A_HELLO: Final = Slow(AGENT_UPGRADE + HALF_A_FRAME, b"{")
NO_SIGN_IN: Final = Slow(PERSON_UPGRADE)
HALF_A_SIGN_IN: Final = Slow(PERSON_UPGRADE + HALF_A_FRAME, b"{")
