"""Where connections come in: admission first, then the TLS handshake, so many of them at a time."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog

from hub_server.gateway.admission import Admission, Guest

log = structlog.get_logger(component="admission")

BACKLOG: Final = 4096
EXHAUSTED_PAUSE_SECONDS: Final = 0.5
TURN_SECONDS: Final = 0.25
"""How long a handshake keeps others from starting. It may last longer; a slow peer then delays nobody."""
TLS_SHUTDOWN_SECONDS: Final = 2.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
Receive = Callable[[Guest], asyncio.Protocol]


class Gate:
    """Accepts connections and gives each admitted one to what `receive` makes for it.

    `tls` returns the context for the next handshake, for certificates change while the hub runs; None is plain HTTP.
    """

    def __init__(
        self,
        listener: socket.socket,
        receive: Receive,
        admission: Admission,
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        at_once: int,
        timeout_seconds: float,
    ) -> None:
        self._listener = listener
        self._receive = receive
        self._admission = admission
        self._tls = tls
        self._turns = asyncio.Semaphore(at_once)
        self._timeout_seconds = timeout_seconds

    async def run(self) -> None:
        """Accept until cancelled. One acceptor alone: a loop has one reader a socket, and a second would oust it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._admission.run(), name="sweep-guests")
            while True:
                connection, address = await self._accepted()
                guest = self._admission.admit(address)
                if guest is None:
                    connection.close()
                    await asyncio.sleep(0)  # a flood of refusals leaves the loop to those who are let in
                elif self._tls is None:
                    await self._open(connection, guest)
                else:
                    tasks.create_task(self._shake_hands(connection, guest, self._tls), name="handshake")

    async def _accepted(self) -> tuple[socket.socket, str]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("connection not accepted", reason=str(error))
                if error.errno in _EXHAUSTED:
                    await asyncio.sleep(EXHAUSTED_PAUSE_SECONDS)
            else:
                return connection, address[0]

    async def _shake_hands(self, connection: socket.socket, guest: Guest, tls: Callable[[], ssl.SSLContext]) -> None:
        turn = _Turn(self._turns)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await turn.take()
            asyncio.get_running_loop().call_later(TURN_SECONDS, turn.give_back)
            await self._open(connection, guest, tls())
        except TimeoutError:
            log.debug("handshake not begun in time")
        finally:
            turn.give_back()
            if guest.occupant is None:
                self._admission.leave(guest)
                connection.close()

    async def _open(self, connection: socket.socket, guest: Guest, tls: ssl.SSLContext | None = None) -> None:
        deadlines = (
            {}
            if tls is None
            else {
                "ssl_handshake_timeout": self._timeout_seconds,
                "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS,
            }
        )
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._receive(guest), connection, ssl=tls, **deadlines
            )
        except (OSError, asyncio.IncompleteReadError) as error:
            log.debug("handshake failed", reason=str(error))
            self._admission.leave(guest)
            connection.close()


class _Turn:
    """A handshake's turn among those that run at a time; given back once, whoever is first."""

    __slots__ = ("_is_held", "_turns")

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._is_held = False

    async def take(self) -> None:
        await self._turns.acquire()
        self._is_held = True

    def give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._turns.release()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises OSError when the port is taken."""
    listener = socket.create_server((host, port), family=_family_of(host), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
