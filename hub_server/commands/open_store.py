"""Commands that have not ended, in the database: all of them, a slice of them, and those that changed lately.

Every method runs within one transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, Row, and_, bindparam, func, select, tuple_
from sqlmodel import col

from hub_server.commands.model import TERMINAL, OpenCommand
from hub_server.commands.tables import CommandRow, ScriptRow
from hub_server.storage.columns import UtcDateTime
from protocol.enumerations import CommandStatus

_OPEN_COMMANDS: Final = select(
    col(CommandRow.id),
    col(CommandRow.organisation_id),
    col(CommandRow.agent_id),
    col(CommandRow.status),
    col(CommandRow.expires_at),
    col(CommandRow.cancel_requested),
    func.length(col(CommandRow.payload)).label("payload_bytes"),
    func.coalesce(func.length(col(ScriptRow.body)), 0).label("script_bytes"),
    col(CommandRow.changed_at),
).outerjoin(
    ScriptRow,
    and_(
        col(ScriptRow.organisation_id) == col(CommandRow.organisation_id),
        col(ScriptRow.sha256) == col(CommandRow.script_sha256),
    ),
)
_IS_OPEN: Final = col(CommandRow.finished_at).is_(None)
_LOAD_OPEN: Final = _OPEN_COMMANDS.where(_IS_OPEN).order_by(col(CommandRow.created_at), col(CommandRow.id))
_OPEN_AFTER: Final = (
    _OPEN_COMMANDS.where(
        _IS_OPEN,
        tuple_(col(CommandRow.organisation_id), col(CommandRow.id))
        > tuple_(bindparam("of_organisation"), bindparam("of_id")),
    )
    .order_by(col(CommandRow.organisation_id), col(CommandRow.id))
    .limit(bindparam("at_most"))
)
_CHANGED_AFTER: Final = (
    _OPEN_COMMANDS.where(
        tuple_(col(CommandRow.changed_at), col(CommandRow.id))
        > tuple_(bindparam("from_moment", type_=UtcDateTime), bindparam("of_id"))
    )
    .order_by(col(CommandRow.changed_at), col(CommandRow.id))
    .limit(bindparam("at_most"))
)


class Changed(Struct, frozen=True):
    """`ended`: ids. `last`: where to go on; None when there is nothing more."""

    open: list[OpenCommand]
    ended: set[str]
    last: tuple[datetime, str] | None


class OpenStore:
    def load(self, connection: Connection) -> list[OpenCommand]:
        """Return every organisation's commands that have not ended, oldest first."""
        return [_open_command(row) for row in connection.execute(_LOAD_OPEN).all()]

    def after(self, connection: Connection, place: tuple[str, str], limit: int) -> list[OpenCommand]:
        """Return those that follow `place`, in the order of organisation and id."""
        values = {"of_organisation": place[0], "of_id": place[1], "at_most": limit}
        return [_open_command(row) for row in connection.execute(_OPEN_AFTER, values).all()]

    def changed_after(self, connection: Connection, place: tuple[datetime, str], limit: int) -> Changed:
        """Return the next commands of every organisation that were changed after `place`, in that order."""
        values = {"from_moment": place[0], "of_id": place[1], "at_most": limit}
        rows = connection.execute(_CHANGED_AFTER, values).all()
        return Changed(
            open=[_open_command(row) for row in rows if row.status not in TERMINAL],
            ended={row.id for row in rows if row.status in TERMINAL},
            last=(rows[-1].changed_at, rows[-1].id) if len(rows) == limit else None,
        )


def _open_command(row: Row[Any]) -> OpenCommand:
    return OpenCommand(
        id=row.id,
        organisation_id=row.organisation_id,
        agent_id=row.agent_id,
        status=CommandStatus(row.status),
        expires_at=row.expires_at,
        cancel_requested=row.cancel_requested,
        payload_bytes=row.payload_bytes,
        script_bytes=row.script_bytes,
    )
