"""The journal: what has been decided and done about each job, on disk before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from agent_client.clock import Clock
from agent_client.execution.decision import Permitted
from agent_client.spool.database import Database, Parameter, Row
from protocol.enumerations import Action, JobState
from protocol.envelope import JobEnvelope
from protocol.frames import CommandResult, Signature

KEPT_SECONDS: Final = 7 * 86400
HOUR_MS: Final = 3_600_000
ACKNOWLEDGED_A_CHECKPOINT: Final = 8
"""So few jobs do not fill the log to where SQLite empties it by itself, which would make an order wait for the disk."""
_CLOCK_MARK: Final = "clock_mark_ms"
_NOT_BEFORE: Final = "orders_not_before_ms"
_STEPS: Final = "orders_steps"
_ASKED: Final = """
CREATE TABLE IF NOT EXISTS asked (
    id TEXT PRIMARY KEY, requested_by TEXT NOT NULL, action TEXT NOT NULL, what TEXT NOT NULL
) WITHOUT ROWID
"""
_SIGNED: Final = "CREATE TABLE IF NOT EXISTS signed (id TEXT PRIMARY KEY, signatures BLOB NOT NULL) WITHOUT ROWID"
_WHAT_MAX_CHARS: Final = 200
_SELECT: Final = "SELECT id, state, accepted_at, started_at, result, acknowledged FROM jobs"

_envelope_decoder: Final = msgspec.json.Decoder(JobEnvelope)
_signatures_decoder: Final = msgspec.json.Decoder(list[Signature])
_result_decoder: Final = msgspec.json.Decoder(CommandResult)


class Entry(Struct, frozen=True):
    command_id: str
    state: JobState
    accepted_at: int
    started_at: int | None
    result: CommandResult | None
    acknowledged: bool


class Journal:
    """Remembers every job that was accepted, so that none runs twice; keeps results until the hub holds them.

    Every change is committed to disk before its call returns. All raise DatabaseError when the disk does not take it.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._acknowledged = 0
        database.on_forgotten = self._forget
        database.execute(_ASKED)
        database.execute(_SIGNED)
        if database.has_forgotten:
            self._forget()

    @property
    def steps(self) -> int:
        """How often an order was accepted or begun; less than before only where an earlier file was put back."""
        return int(self._database.meta(_STEPS) or 0)

    @property
    def not_before_ms(self) -> int:
        """Orders issued earlier may have run already, unknown to this journal: the one before it was lost."""
        return int(self._database.meta(_NOT_BEFORE) or 0)

    def effective_now_ms(self) -> int:
        """Return the clock's time, or the high-water mark where the clock has gone back behind it."""
        return max(self._clock.now_ms(), self._mark_ms())

    def find(self, command_id: str) -> Entry | None:
        rows = self._database.rows(f"{_SELECT} WHERE id = ?", (command_id,))
        return _entry(rows[0]) if rows else None

    def open_entries(self) -> list[Entry]:
        """Return, oldest first, the jobs whose result the hub does not hold yet."""
        query = f"{_SELECT} WHERE acknowledged = 0 ORDER BY accepted_at, id"
        return [_entry(row) for row in self._database.rows(query)]

    def accepted_last_hour(self) -> int:
        """Return how many jobs were accepted in the last hour; after the clock went back, those ahead of it too."""
        since = self._clock.now_ms() - HOUR_MS
        ((count,),) = self._database.rows("SELECT count(*) FROM jobs WHERE accepted_at > ?", (since,))
        assert isinstance(count, int)
        return count

    def accept(
        self, envelope: JobEnvelope, payload: bytes, signatures: Sequence[Signature] = (), *, starts: bool = False
    ) -> int:
        """Return the time written down. The mark rises to the signed time of issue, as far as the clock agrees.

        `starts`: write down too, as `start` does, that it begins now: that is one wait for the disk and not two.
        """
        now = self._clock.now_ms()

        def write() -> None:
            mark = max(self._mark_ms(), min(envelope.issued_at, now))
            self._database.set_meta(_CLOCK_MARK, str(mark))
            self._count_steps(2 if starts else 1)
            self._database.execute(
                "INSERT INTO asked VALUES (?, ?, ?, ?)",
                (envelope.job_id, envelope.requested_by, envelope.action, _what(envelope)),
            )
            if starts:
                self._database.execute(
                    "INSERT INTO jobs (id, state, envelope, expires_at, accepted_at, started_at)"
                    " VALUES (?, ?, x'', ?, ?, ?)",
                    (envelope.job_id, JobState.STARTED, envelope.expires_at, now, now),
                )
                return
            encoded = msgspec.json.encode(signatures)
            self._database.execute("INSERT OR REPLACE INTO signed VALUES (?, ?)", (envelope.job_id, encoded))
            self._database.execute(
                "INSERT INTO jobs (id, state, envelope, expires_at, accepted_at) VALUES (?, ?, ?, ?, ?)",
                (envelope.job_id, JobState.ACCEPTED, payload, envelope.expires_at, now),
            )

        self._database.vital(write)
        return now

    def start(self, command_id: str) -> int:
        """To be called before the process is made: it never runs again. Returns the time written down."""
        now = self._clock.now_ms()

        def write() -> None:
            self._count_steps(1)
            self._database.execute(
                "UPDATE jobs SET state = ?, started_at = ?, envelope = x'' WHERE id = ?",
                (JobState.STARTED, now, command_id),
            )

        self._database.vital(write)
        return now

    def finish(self, result: CommandResult) -> None:
        self._write(
            "UPDATE jobs SET state = ?, result = ?, envelope = x'' WHERE id = ?",
            JobState.FINISHED,
            msgspec.json.encode(result),
            result.command_id,
        )

    def acknowledge(self, command_id: str) -> None:
        self._acknowledged += 1
        if self._acknowledged % ACKNOWLEDGED_A_CHECKPOINT == 0:
            self._database.checkpoint()  # before the write, which then begins the log anew: that takes a sync more
        self._write("UPDATE jobs SET acknowledged = 1 WHERE id = ? AND result IS NOT NULL", command_id)

    def not_started(self) -> list[Permitted]:
        """Return, oldest first, the verified orders that were accepted and have not begun.

        One that this version of the agent cannot read is left out; another version may have accepted it. The first
        version kept no signatures.
        """
        query = (
            "SELECT envelope, signatures FROM jobs LEFT JOIN signed USING (id) WHERE state = ? ORDER BY accepted_at, id"
        )
        orders = []
        for payload, signatures in self._database.rows(query, (JobState.ACCEPTED,)):
            assert isinstance(payload, bytes)
            with suppress(msgspec.MsgspecError, UnicodeError):
                kept = _signatures_decoder.decode(signatures) if isinstance(signatures, bytes) else []
                orders.append(Permitted(_envelope_decoder.decode(payload), payload, kept))
        return orders

    def prune(self) -> None:
        """Forget jobs that are acknowledged and whose order expired a week before the mark.

        By the mark alone, which never goes back: a clock that ran ahead for a while would have orders forgotten here
        that could run once more when it is set right.
        """
        horizon = self._mark_ms() - KEPT_SECONDS * 1000
        with self._database.transaction():
            self._database.execute("DELETE FROM jobs WHERE acknowledged = 1 AND expires_at < ?", (horizon,))
            self._database.execute("DELETE FROM asked WHERE id NOT IN (SELECT id FROM jobs)")
            self._database.execute("DELETE FROM signed WHERE id NOT IN (SELECT id FROM jobs WHERE acknowledged = 0)")

    def _forget(self) -> None:
        """Take it that every known order has begun, and any earlier one has run: a newer journal was lost."""
        now = self._clock.now_ms()

        def write() -> None:
            self._database.set_meta(_NOT_BEFORE, str(now))
            self._database.execute(
                "UPDATE jobs SET state = ?, started_at = accepted_at WHERE state = ?",
                (JobState.STARTED, JobState.ACCEPTED),
            )

        self._database.vital(write)

    def _mark_ms(self) -> int:
        return int(self._database.meta(_CLOCK_MARK) or 0)

    def _count_steps(self, count: int) -> None:
        self._database.set_meta(_STEPS, str(self.steps + count))

    def _write(self, statement: str, *parameters: Parameter) -> None:
        self._database.vital(lambda: self._database.execute(statement, parameters))


def _what(envelope: JobEnvelope) -> str:
    """Return a word or two; arguments may hold secrets."""
    words = [envelope.interpreter or ""] if envelope.script_sha256 else envelope.argv
    shown = words[:1] if envelope.action is Action.EXEC else words
    return " ".join(shown)[:_WHAT_MAX_CHARS]


def _entry(row: Row) -> Entry:
    command_id, state, accepted_at, started_at, result, acknowledged = row
    assert isinstance(accepted_at, int)
    assert started_at is None or isinstance(started_at, int)
    return Entry(
        command_id=str(command_id),
        state=JobState(str(state)),
        accepted_at=accepted_at,
        started_at=started_at,
        result=_result_decoder.decode(result) if isinstance(result, bytes) else None,
        acknowledged=bool(acknowledged),
    )
