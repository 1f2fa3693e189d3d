"""How the daemon finds its executor: a Unix socket for the two alone, or a loopback port with a secret (Windows)."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Final

from agent_client.execution.places import ExecutorPlaces, address_of
from agent_client.paths import Places
from agent_client.store.secure import SecureStore, StoreError

HAS_UNIX_SOCKETS: Final = sys.platform != "win32"
_BACKLOG: Final = 8
_OTHERS: Final = 0o177
_SECRET_BYTES: Final = 32
_FIRST_PASSED: Final = 3
_CREDENTIALS: Final = struct.Struct("3i")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def socket_of(agent: Places) -> Path:
    return agent.state / "executor.sock"


class Door:
    """The executor's side. Whoever opened it closes it."""

    def __init__(self, places: ExecutorPlaces) -> None:
        """Listen on the socket that a service manager passed on (systemd's LISTEN_FDS), or on one of our own.

        Raises OSError or StoreError.
        """
        self._agent = places.agent
        self._secret = b"" if HAS_UNIX_SOCKETS else secrets.token_bytes(_SECRET_BYTES)
        self._allowed = {0, _owner_of(places.agent.state)}
        self.is_passed = os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1"
        self.listener = socket.socket(fileno=_FIRST_PASSED) if self.is_passed else self._listen()
        self.listener.setblocking(False)

    async def admits(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Tell whether it is the daemon's user, or root, who knocks."""
        if self._secret:
            return secrets.compare_digest(await reader.readexactly(_SECRET_BYTES), self._secret)
        peer = writer.get_extra_info("socket")
        if sys.platform != "linux":
            return peer is not None  # the mode of the socket keeps others out
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return _CREDENTIALS.unpack(raw)[1] in self._allowed

    def close(self) -> None:
        """Stop listening; the socket's file goes where it was made here."""
        self.listener.close()
        if not self.is_passed:
            socket_of(self._agent).unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        if not HAS_UNIX_SOCKETS:
            listener = socket.create_server(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            store = SecureStore(self._agent.state)
            store.save(socket_of(self._agent).name, port.to_bytes(2, "big") + self._secret)
            return listener
        path = socket_of(self._agent)
        path.unlink(missing_ok=True)  # the lock says that no other executor owns it
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with address_of(path) as address:
                _bind_for_us_alone(listener, address)
            if sys.platform != "win32" and os.geteuid() == 0:
                _give(path, _owner_of(self._agent.state))
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


async def knock(agent: Places) -> Streams:
    """Return the streams to a listening executor. Raises OSError or StoreError where none listens."""
    path = socket_of(agent)
    if sys.platform == "win32":
        said = SecureStore(agent.state).load(path.name)
        streams = await asyncio.open_connection("127.0.0.1", int.from_bytes(said[:2], "big"))
        streams[1].write(said[2:])
        return streams
    if not path.exists():
        raise StoreError("no executor listens")
    with address_of(path) as address:
        return await asyncio.open_unix_connection(address)


def _bind_for_us_alone(listener: socket.socket, address: str) -> None:
    """The file is made with its mode: whoever owns the folder could have the mode of another changed afterwards."""
    before = os.umask(_OTHERS)
    try:
        listener.bind(address)
    finally:
        os.umask(before)


def _give(path: Path, owner: int) -> None:
    """Give a socket of ours to `owner`, who may own its folder and have put another file there: never that one.

    Raises StoreError.
    """
    if sys.platform != "linux":
        os.chown(path, owner, -1, follow_symlinks=False)
        return
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        is_ours = stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if not is_ours:
            raise StoreError(f"somebody has exchanged {path}")
        os.chown(f"/proc/self/fd/{descriptor}", owner, -1)
    finally:
        os.close(descriptor)


def _owner_of(folder: Path) -> int:
    return folder.stat().st_uid
