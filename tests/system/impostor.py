"""A server that answers like a hub and is none."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trustme


def own_bundle() -> str:
    """Return the certificate of an authority that nobody knows."""
    return trustme.CA().cert_pem.bytes().decode()


class Impostor:
    """Answers like a hub, with a bundle of its choice, and remembers every byte it was sent."""

    def __init__(self, bundle_pem: str) -> None:
        trust = {"document": "e30=", "signatures": []}
        self._answer = json.dumps({"ca_bundle_pem": bundle_pem, "trust": trust}).encode()
        self.heard = bytearray()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                self.heard += await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(self._answer), self._answer)
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(bundle_pem: str) -> AsyncIterator[Impostor]:
    impostor = Impostor(bundle_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(impostor.serve, "127.0.0.1", 0, ssl=context)
    async with server:
        impostor.port = server.sockets[0].getsockname()[1]
        yield impostor
