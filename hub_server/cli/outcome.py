"""How a command ends."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; the help of `jtnt-hub` lists them."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    PORT_IN_USE = 3
    NOT_WRITABLE = 4
    ALREADY_RUNNING = 5
    DATABASE_NEWER = 6
    DATABASE = 7
    KEYS = 8
    NOT_SET_UP = 9
    SETTINGS = 78  # EX_CONFIG of sysexits.h: systemd shows it as a configuration error


class CommandFailed(Exception):
    """The message is one line that says what to do."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
