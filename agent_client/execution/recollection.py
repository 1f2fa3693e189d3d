"""What this machine's journal tells a person of its jobs: who asked for what, and how it ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

import msgspec
from msgspec import Struct

from agent_client.errors import AgentError
from protocol.frames import CommandResult

_QUERY: Final = """
SELECT jobs.id, state, accepted_at, result, requested_by, action, what
FROM jobs LEFT JOIN asked USING (id) ORDER BY accepted_at DESC, id LIMIT ?
"""

_decoder: Final = msgspec.json.Decoder(CommandResult)


class JournalUnreadable(AgentError):
    code: ClassVar[str] = "journal_unreadable"
    exit_code: ClassVar[int] = 74


class Recalled(Struct, frozen=True, kw_only=True):
    """`what`: the program, or the names it was about; arguments are not kept. `ended`: empty while it has not."""

    command_id: str
    accepted_at_ms: int
    requested_by: str
    action: str
    what: str
    state: str
    ended: str


def newest_jobs(journal: Path, count: int) -> list[Recalled]:
    """Return the jobs that were accepted last, newest first; beside a running executor. Raises JournalUnreadable."""
    if not journal.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            rows = connection.execute(_QUERY, (count,)).fetchall()
    except sqlite3.Error as error:
        raise JournalUnreadable(f"{journal} cannot be read: {error}") from error
    return [
        Recalled(
            command_id=command_id,
            state=state,
            accepted_at_ms=accepted_at,
            ended=_end_of(_decoder.decode(result)) if result else "",
            requested_by=requested_by or "",
            action=action or "",
            what=what or "",
        )
        for command_id, state, accepted_at, result, requested_by, action, what in rows
    ]


def line_of(job: Recalled) -> str:
    at = datetime.fromtimestamp(job.accepted_at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    whose = f" by {job.requested_by}" if job.requested_by else ""
    return f"{at}  {job.action} {job.what}{whose}: {job.ended or job.state}  [{job.command_id}]"


def _end_of(result: CommandResult) -> str:
    ended = result.status.value.lower()
    return f"{ended}, {result.result}" if result.result else ended
