"""`jtnt-hub` that ends itself by SIGKILL at an exact step of an enrollment: a program of its own, for tests to start.

It is given a file before its arguments. While there is an `Order` in it, the next enrollment comes to that step and no
further; the file is gone then.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import Pool

from hub_server.cli.main import run

COMMIT: Final = "COMMIT"
TOKEN_IS_READ: Final = "SELECT enrollment_tokens"
"""How an enrollment begins."""


class Moment(StrEnum):
    BEFORE = "before"
    AFTER = "after"


class Order(Struct, frozen=True):
    """The first step that begins with `words`: COMMIT, or a statement in the database's own language."""

    moment: Moment
    words: str

    def __str__(self) -> str:
        return f"{self.moment} {self.words}"


class Mortality:
    """Follows the one task that enrolls, among whatever else the hub does with its database."""

    def __init__(self, order: Path) -> None:
        self._order = order
        self._enrolling: asyncio.Task[Any] | None = None
        self._committing: DBAPIConnection | None = None

    def listen(self) -> None:
        event.listen(Engine, "before_cursor_execute", self.before_statement)
        event.listen(Engine, "after_cursor_execute", self.after_statement)
        event.listen(Engine, "commit", self.before_commit)
        event.listen(Pool, "checkin", self.after_commit)

    def before_statement(self, _connection: Connection, _cursor: Any, statement: str, *_details: Any) -> None:
        task = _task()
        if self._enrolling is None and task is not None and statement.startswith(TOKEN_IS_READ):
            self._enrolling = task if self._order.exists() else None
        if task is self._enrolling:
            self._come_to(Moment.BEFORE, statement)

    def after_statement(self, _connection: Connection, _cursor: Any, statement: str, *_details: Any) -> None:
        if _task() is self._enrolling:
            self._come_to(Moment.AFTER, statement)

    def before_commit(self, connection: Connection) -> None:
        if _task() is self._enrolling:
            self._committing = connection.connection.dbapi_connection
            self._come_to(Moment.BEFORE, COMMIT)

    def after_commit(self, connection: DBAPIConnection, _entry: Any) -> None:
        """A connection comes back to its pool as soon as it has committed, by a task of the library's own."""
        if connection is self._committing:
            self._committing = None
            self._come_to(Moment.AFTER, COMMIT)

    def _come_to(self, moment: Moment, step: str) -> None:
        if self._enrolling is None:
            return
        order = msgspec.json.decode(self._order.read_bytes(), type=Order)
        if moment is order.moment and step.startswith(order.words):
            self._order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None


if __name__ == "__main__":
    Mortality(Path(sys.argv[1])).listen()
    sys.exit(run(sys.argv[2:]))
