"""Whether the database is the one this agent left: a tiny file in another folder remembers its newest state."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct

from agent_client.logs import Log
from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.ledger import STREAMS, Stream
from agent_client.spool.spool import Spool
from agent_client.store.secure import SecureStore, StoreError
from protocol.reports import SPOOL_RENEWED

MARKS: Final = "spool.json"
_RUN: Final = "run"
_ENDED: Final = "ended"

_log = Log("spool")


class _Marks(Struct, frozen=True):
    """Of the agent `owner`: how often its daemon has started on this spool, and how far the streams had come."""

    owner: str
    run: int
    epochs: dict[Stream, int]
    newest: dict[Stream, int]


class History:
    """Counts the starts of the daemon, in the database and beside it. Call `open` once, `note` now and then."""

    def __init__(self, database: Database, spool: Spool, marks: SecureStore, owner: str) -> None:
        self.was_orderly = database.meta(_ENDED) == "orderly"
        self._database = database
        self._spool = spool
        self._marks = marks
        self._owner = owner
        self._run = int(database.meta(_RUN) or 0)

    def open(self) -> None:
        """Compare the two, and tell the spool where its database is older than it was, or a new one."""
        marks = self._load()
        fault = self._fault(marks) if marks else None
        if fault == "restored":
            self._spool.went_back()
        elif fault == "deleted" and self._database.replaced is None:
            self._database.forgotten()
            self._spool.report(SPOOL_RENEWED, {"cause": "deleted"})
        if fault:
            _log.warn("spool is not the one this agent left", fault=fault)
        self._run = max(self._run, marks.run if marks else 0) + 1
        self._write({_RUN: str(self._run), _ENDED: ""})
        self.note()

    def note(self) -> None:
        """Write down how far the streams have come."""
        epochs = {stream: self._spool.epoch(stream) for stream in STREAMS}
        try:
            marks = _Marks(self._owner, self._run, epochs, self._spool.newest())
            self._marks.save(MARKS, msgspec.json.encode(marks))
        except (DatabaseError, StoreError) as error:
            _log.warn("marks of the spool not written", reason=str(error))

    def close(self) -> None:
        """Note an orderly end."""
        self._write({_ENDED: "orderly"})
        self.note()

    def _fault(self, marks: _Marks) -> Literal["deleted", "restored"] | None:
        if marks.owner != self._owner:
            return None
        if not self._run:
            return "deleted"
        newest = self._spool.newest()
        is_behind = any(
            newest[stream] < marks.newest.get(stream, 0)
            for stream in STREAMS
            if self._spool.epoch(stream) == marks.epochs.get(stream)
        )
        return "restored" if self._run < marks.run or is_behind else None

    def _load(self) -> _Marks | None:
        if not self._marks.exists(MARKS):
            return None
        try:
            return msgspec.json.decode(self._marks.load(MARKS), type=_Marks)
        except (StoreError, msgspec.MsgspecError, UnicodeError) as error:
            _log.warn("marks of the spool not usable", reason=str(error))
            return None

    def _write(self, values: dict[str, str]) -> None:
        def write() -> None:
            for key, value in values.items():
                self._database.set_meta(key, value)

        try:
            self._database.vital(write)
        except DatabaseError as error:
            _log.error("the spool does not take it", reason=str(error))
