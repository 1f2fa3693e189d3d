"""An agent's disk in memory: its real database schema and statements on SQLite, and what a cut of power leaves of it.

What is committed durably stays. Transitions of jobs are told to an observer once they are committed.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent_client.spool.database import Database, Parameter, Row
from tests.simulation.life import Life

_FORMAT_VERSIONS: Final = slice(18, 20)
"""Where a database file says how it is written and read (SQLite's file format, 1.3.3)."""
_TRIGGERS: Final = """
CREATE TRIGGER seen_job_added AFTER INSERT ON jobs BEGIN SELECT note_job(NEW.id, NEW.state); END;
CREATE TRIGGER seen_job_changed AFTER UPDATE OF state ON jobs BEGIN SELECT note_job(NEW.id, NEW.state); END;
"""

JobCommitted = Callable[[str, str], None]
"""Called with a job's id and state."""


class AgentDisk:
    """Outlives the agent's lives. `on_job` hears what is on disk."""

    def __init__(self, on_job: JobCommitted) -> None:
        self._on_job = on_job
        self._noted: list[tuple[str, str]] = []
        self._durable: bytes | None = None
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.create_function("note_job", 2, self._note)
        self.connection.deserialize(_empty())

    def begin(self, *, durable: bool) -> None:
        """Remember how the disk stands, when what comes now may be undone by a cut of power."""
        if not durable and self._durable is None:
            self._durable = self.connection.serialize()

    def committed(self, *, durable: bool) -> None:
        if durable:
            self._durable = None
        noted, self._noted = self._noted, []
        for command_id, state in noted:
            self._on_job(command_id, state)

    def undo(self) -> None:
        """What the process that died had not committed is gone."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self._noted.clear()

    def cut_power(self) -> None:
        self.undo()
        if self._durable is not None:
            self.connection.deserialize(self._durable)
            self._durable = None

    def _note(self, command_id: str, state: str) -> None:
        self._noted.append((command_id, state))


class AgentDatabase(Database):
    """The agent's own class for one of its lives, on a disk that does not fail but may be the last thing it sees."""

    def __init__(self, disk: AgentDisk, life: Life) -> None:
        self.path = Path("in-memory")
        self.replaced = None
        self.last_written_ms = None
        self.has_forgotten = False
        self.make_room = self.on_forgotten = self.on_damage = _nothing
        self._connection = disk.connection
        self._disk = disk
        self._life = life

    def has_room(self) -> bool:
        return True

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        self._life.check()
        self._disk.begin(durable=durable)
        try:
            with super().transaction(durable=durable):
                yield
                self._life.may_die("before a commit")
        except BaseException:
            self._disk.undo()
            raise
        self._disk.committed(durable=durable)
        self._life.may_die("after a commit")

    def execute(self, statement: str, parameters: Sequence[Parameter] = ()) -> int:
        self._life.check()
        return super().execute(statement, parameters)

    def rows(self, query: str, parameters: Sequence[Parameter] = ()) -> list[Row]:
        self._life.check()
        return super().rows(query, parameters)


_made: list[bytes] = []


def _empty() -> bytes:
    """Return an empty database as the agent makes it, with triggers; made once."""
    if not _made:
        with tempfile.TemporaryDirectory(prefix="jtnt-simulation-") as folder:
            real = Database(Path(folder) / "state" / "spool.db")
            copy = sqlite3.connect(":memory:")
            real._connection.backup(copy)
            real.close()
        copy.executescript(_TRIGGERS)
        image = bytearray(copy.serialize())
        image[_FORMAT_VERSIONS] = b"\x01\x01"  # said to be in WAL mode, SQLite would want a file beside it
        _made.append(bytes(image))
        copy.close()
    return _made[0]


def _nothing() -> None:
    pass
