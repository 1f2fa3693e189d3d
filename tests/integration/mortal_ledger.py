"""`jtnt-hub` that ends itself by SIGKILL on one side of a commit: a program of its own, for tests to start.

It is given a file before its arguments. While there is an `Order` in it, the next transaction with such a statement
comes to that side of its commit and no further; the file is gone then.
"""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import Pool

from hub_server.cli.main import run


class Side(StrEnum):
    BEFORE = "before"
    AFTER = "after"


class Order(Struct, frozen=True):
    """`words`: how the statement begins."""

    side: Side
    words: str


class Mortality:
    def __init__(self, order: Path) -> None:
        self._order = order
        self._doomed: DBAPIConnection | None = None

    def listen(self) -> None:
        event.listen(Engine, "before_cursor_execute", self.before_statement)
        event.listen(Engine, "commit", self.before_commit)
        event.listen(Pool, "checkin", self.after_commit)

    def before_statement(self, connection: Connection, _cursor: Any, statement: str, *_details: Any) -> None:
        if self._order.exists() and statement.startswith(self._read().words):
            self._doomed = connection.connection.dbapi_connection

    def before_commit(self, connection: Connection) -> None:
        self._die(connection.connection.dbapi_connection, Side.BEFORE)

    def after_commit(self, connection: DBAPIConnection, _entry: Any) -> None:
        self._die(connection, Side.AFTER)

    def _die(self, connection: DBAPIConnection | None, side: Side) -> None:
        if connection is not None and connection is self._doomed and self._read().side is side:
            self._order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def _read(self) -> Order:
        return msgspec.json.decode(self._order.read_bytes(), type=Order)


if __name__ == "__main__":
    Mortality(Path(sys.argv[1])).listen()
    sys.exit(run(sys.argv[2:]))
