"""The local channel between the command line and the daemon: one JSON line asks, one answers.

A Unix socket, or a loopback port with a secret where there are none (Windows; that branch is unproven).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, Literal

import msgspec
from msgspec import Struct

from agent_client.control.status import Status
from agent_client.errors import AgentError
from agent_client.logs import Log
from agent_client.paths import Places
from agent_client.store.secure import FILE_MODE, SecureStore, StoreError

TIMEOUT_SECONDS: Final = 5.0
MESSAGE_MAX_BYTES: Final = 64 * 1024
_HAS_UNIX_SOCKETS: Final = sys.platform != "win32"
_PATH_MAX_BYTES: Final = 100
_BACKLOG: Final = 8

_log = Log("control")


class Question(Struct, frozen=True, kw_only=True):
    ask: Literal["status", "reload"]
    secret: str = ""


class DaemonUnreachable(AgentError):
    """No daemon runs in this folder, or it does not answer."""

    code: ClassVar[str] = "daemon_unreachable"


class ControlServer:
    """Answers `status`, and passes `reload` on. `run()` ends by cancellation and removes the socket."""

    def __init__(self, places: Places, status: Callable[[], Status], reload: Callable[[], None]) -> None:
        self._places = places
        self._status = status
        self._reload = reload
        self._secret = "" if _HAS_UNIX_SOCKETS else secrets.token_hex(32)

    async def run(self) -> None:
        try:
            listener = self._listen()
        except (OSError, AgentError) as error:
            _log.warn("no local control socket; `jtnt-agent status` will not find this daemon", reason=str(error))
            return
        server = await asyncio.start_server(self._answer, sock=listener, limit=MESSAGE_MAX_BYTES, backlog=_BACKLOG)
        try:
            await server.serve_forever()
        finally:
            self._places.control_socket.unlink(missing_ok=True)
            self._places.control_secret.unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        if not _HAS_UNIX_SOCKETS:
            listener = socket.create_server(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            key = self._places.control_secret.name
            SecureStore(self._places.state).save(key, f"{port} {self._secret}".encode())
            return listener
        path = self._places.control_socket
        path.unlink(missing_ok=True)  # the lock says that no other daemon owns it
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(path) as address:
                listener.bind(address)
            path.chmod(FILE_MODE)  # the folder is ours alone already
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                question = msgspec.json.decode(await reader.readline(), type=Question)
                if self._secret and not secrets.compare_digest(question.secret, self._secret):
                    return
                if question.ask == "reload":
                    self._reload()
                writer.write(msgspec.json.encode(self._status()) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError, msgspec.MsgspecError, AgentError) as error:
            _log.debug("question on the control socket not answered", reason=str(error))
        finally:
            writer.close()


def ask_daemon(places: Places, ask: Literal["status", "reload"]) -> Status:
    """Ask the daemon of `places` and wait for its answer. Raises DaemonUnreachable."""
    try:
        with _connected(places) as (channel, secret):
            channel.sendall(msgspec.json.encode(Question(ask=ask, secret=secret)) + b"\n")
            answer = b""
            while not answer.endswith(b"\n") and len(answer) < MESSAGE_MAX_BYTES and (part := channel.recv(65536)):
                answer += part
        return msgspec.json.decode(answer, type=Status)
    except (OSError, StoreError, ValueError, msgspec.MsgspecError) as error:
        raise DaemonUnreachable(f"the daemon is not running, or does not answer: {error}") from error


@contextmanager
def _connected(places: Places) -> Iterator[tuple[socket.socket, str]]:
    if not _HAS_UNIX_SOCKETS:
        store = SecureStore(places.state)
        port, secret = store.load(places.control_secret.name).decode().split()
        with socket.create_connection(("127.0.0.1", int(port)), TIMEOUT_SECONDS) as channel:
            yield channel, secret
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(TIMEOUT_SECONDS)
        with _short(places.control_socket) as address:
            channel.connect(address)
        yield channel, ""


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of `path` that fits a socket's address; a long one goes through its folder's descriptor (Linux)."""
    if len(os.fsencode(path)) <= _PATH_MAX_BYTES or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        with suppress(OSError):
            os.close(descriptor)
