"""The least that aiohttp and uvloop can do with the same connections: mutual TLS 1.3, the upgrade, one reader each.

SIGUSR2 makes it do a full garbage collection. Usage: python -m scripts.peers.bare_aiohttp PORT SERVER.pem ANCHORS.pem
"""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import sys

import uvloop
from aiohttp import web

from protocol.limits import AGENT_SOCKET_PATH, SUBPROTOCOL


async def hold(request: web.Request) -> web.WebSocketResponse:
    """Upgrade and read until the peer goes."""
    socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), compress=False)
    await socket.prepare(request)
    async for _ in socket:
        pass
    return socket


async def serve(port: int, server_pem: str, anchors: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(server_pem)
    context.load_verify_locations(anchors)
    context.verify_mode = ssl.CERT_REQUIRED
    application = web.Application()
    application.router.add_get(AGENT_SOCKET_PATH, hold)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, gc.collect)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, backlog=1024).start()
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
