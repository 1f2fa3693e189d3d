"""Whether the journal is the one this machine left: a tiny file apart from it remembers how far it had come."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent_client.execution.journal import Journal
from agent_client.logs import Log
from agent_client.spool.database import Database, DatabaseError
from agent_client.store.secure import SecureStore, StoreError

MARKS: Final = "journal.json"
_STARTS: Final = "starts"
_INHERITED: Final = "inherited"
_JOB_COLUMNS: Final = "id, state, envelope, expires_at, accepted_at, started_at, result, acknowledged"
_META_KEYS: Final = ("clock_mark_ms", "orders_not_before_ms")

_log = Log("execution")


class _Marks(Struct, frozen=True):
    """Of the agent `owner`: how often an executor has started on this journal, and how far that had come."""

    owner: str
    starts: int
    steps: int


class Marks:
    """Call `open` once, before jobs are taken from the journal; `note` now and then, and at the end."""

    def __init__(self, database: Database, journal: Journal, store: SecureStore, owner: str) -> None:
        self._database = database
        self._journal = journal
        self._store = store
        self._owner = owner
        self._starts = int(database.meta(_STARTS) or 0)

    def open(self) -> None:
        """Tell the journal where its database is older than it was, or a new one. Raises DatabaseError."""
        marks = self._load()
        if marks is not None and marks.owner == self._owner and self._is_behind(marks):
            _log.warn("journal of jobs is not the one this machine left; earlier orders are refused")
            self._database.forgotten()
        self._starts = max(self._starts, marks.starts if marks else 0) + 1
        self._database.vital(lambda: self._database.set_meta(_STARTS, str(self._starts)))
        self.note()

    def note(self) -> None:
        try:
            marks = _Marks(self._owner, self._starts, self._journal.steps)
            self._store.save(MARKS, msgspec.json.encode(marks))
        except (DatabaseError, StoreError) as error:
            _log.warn("marks of the journal not written", reason=str(error))

    def _is_behind(self, marks: _Marks) -> bool:
        return self._starts < marks.starts or self._journal.steps < marks.steps

    def _load(self) -> _Marks | None:
        if not self._store.exists(MARKS):
            return None
        try:
            return msgspec.json.decode(self._store.load(MARKS), type=_Marks)
        except (StoreError, msgspec.MsgspecError, UnicodeError) as error:
            _log.warn("marks of the journal not usable", reason=str(error))
            return None


def inherit(database: Database, spool: Path) -> None:
    """Take the jobs of an earlier version, which kept them in the spool; once. Raises DatabaseError.

    Where they cannot be read, orders that were given before are refused: they may have run.
    """
    if database.meta(_INHERITED) or database.number("SELECT count(*) FROM jobs"):
        return
    jobs, meta = [], []
    if spool.exists():
        try:
            with closing(sqlite3.connect(f"{spool.as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
                jobs = connection.execute(f"SELECT {_JOB_COLUMNS} FROM jobs").fetchall()  # noqa: S608  a constant
                meta = connection.execute("SELECT key, value FROM meta").fetchall()
        except sqlite3.Error as error:
            _log.warn("jobs of an earlier version not readable; earlier orders are refused", reason=str(error))
            database.forgotten()

    def write() -> None:
        database.execute_many(f"INSERT INTO jobs ({_JOB_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", jobs)  # noqa: S608
        for key, value in meta:
            if key in _META_KEYS:
                database.set_meta(key, value)
        database.set_meta(_INHERITED, "1")

    database.vital(write)
