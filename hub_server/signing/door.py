"""Who reaches the signer: the hub that started it, by the socket it was given, or who is let in at one of its own."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from hub_server.signing.desk import Desk
from hub_server.signing.model import BadMessage, Frames, Ready, frame_of, question_of

CONNECTIONS_MAX: Final = 8
SEND_SECONDS: Final = 5
LOOK_SECONDS: Final = 1.0
"""A signal that comes just before somebody is waited for interrupts nothing: it is seen at the next look."""
AGAIN_SECONDS: Final = 0.1
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED})
"""Why nobody can be let in at the moment: whoever waits is let in later."""
_READ_BYTES: Final = 64 * 1024
_CREDENTIALS: Final = struct.Struct("3i")


def converse(connection: socket.socket, desk: Desk) -> None:
    """Answer until the other side closes, breaks off, or says what is no question."""
    frames = Frames()
    with suppress(OSError, BadMessage), connection:
        _bound_sending(connection)
        connection.sendall(frame_of(Ready(os.getpid())))
        while data := connection.recv(_READ_BYTES):
            for body in frames.feed(data):
                connection.sendall(frame_of(desk.answer(question_of(body))))


def listen(path: Path) -> socket.socket:
    """Return a socket at `path`, also where one was left behind. Who may ask is decided when they come.

    Raises OSError.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o666 if sys.platform == "linux" else 0o600)
    listener.listen(CONNECTIONS_MAX)
    return listener


def receive(listener: socket.socket, desk: Desk, users: Collection[int]) -> None:
    """Let in who may ask, CONNECTIONS_MAX at a time, each on a thread; ends when `listener` is closed."""
    places = threading.BoundedSemaphore(CONNECTIONS_MAX)
    listener.settimeout(LOOK_SECONDS)

    def serve(connection: socket.socket) -> None:
        try:
            converse(connection, desk)
        finally:
            places.release()

    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        except OSError as error:
            if error.errno not in _PASSING:
                return
            time.sleep(AGAIN_SECONDS)
            continue
        if not may_ask(connection, users) or not places.acquire(blocking=False):
            connection.close()
            continue
        threading.Thread(target=serve, args=(connection,), name="signer-connection", daemon=True).start()


def may_ask(connection: socket.socket, users: Collection[int]) -> bool:
    """Tell whether the other end's process belongs to root, this user, or one of `users`. Linux tells who it is;
    elsewhere the socket's file lets in nobody but this user and root.
    """
    if sys.platform != "linux":
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return uid in {0, os.geteuid(), *users}


def _bound_sending(connection: socket.socket) -> None:
    """One that asks and does not read is left; one that does not ask may be silent for as long as it likes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
