"""Admission before its cost: only so many TLS handshakes run at a time, the rest waits in the listen queue."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(component="admission")

BACKLOG: Final = 4096
EXHAUSTED_PAUSE_SECONDS: Final = 0.5
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class HandshakeGate:
    """Accepts connections for `factory` with `at_once` handshakes in progress at most."""

    def __init__(
        self,
        listener: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext,
        *,
        at_once: int,
        timeout_seconds: float,
    ) -> None:
        self._listener = listener
        self._factory = factory
        self._tls = tls
        self._at_once = at_once
        self._timeout_seconds = timeout_seconds

    async def run(self) -> None:
        """Accept until cancelled. One acceptor alone: a loop has one reader a socket, and a second would oust it."""
        free = asyncio.Semaphore(self._at_once)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await free.acquire()
                connection = await self._accepted()
                tasks.create_task(self._shake_hands(connection, free), name="handshake")

    async def _accepted(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("connection not accepted", reason=str(error))
                if error.errno in _EXHAUSTED:
                    await asyncio.sleep(EXHAUSTED_PAUSE_SECONDS)
            else:
                return connection

    async def _shake_hands(self, connection: socket.socket, free: asyncio.Semaphore) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory, connection, ssl=self._tls, ssl_handshake_timeout=self._timeout_seconds
            )
        except (OSError, asyncio.IncompleteReadError) as error:
            log.debug("handshake failed", reason=str(error))
            connection.close()
        finally:
            free.release()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises OSError when the port is taken."""
    listener = socket.create_server((host, port), family=_family_of(host), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
