"""Commands, their scripts and their output in the database.

Every method runs within one transaction (`Database.transact`, or `run_sync` of a connection). Statements are built
once: building them again costs more than the database takes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    inspect,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from hub_server.commands.model import TERMINAL, Command
from hub_server.commands.tables import CommandOutputRow, CommandRow, ScriptRow
from hub_server.storage.columns import UtcDateTime
from protocol.commands import CommandsList
from protocol.enumerations import CommandReason, CommandStatus, OutputStream
from protocol.frames import Signature

_CHANGING: Final = (
    "status",
    "reason",
    "exit_code",
    "result",
    "truncated",
    "sent_at",
    "started_at",
    "finished_at",
    "cancel_requested",
    "output_bytes",
    "version",
)
_LAST_MS: Final = 253_402_300_799_999  # of the year 9999
_INSERTS: Final = (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))

_ADD: Final = {
    name: dialect_insert(CommandRow)
    .on_conflict_do_nothing(index_elements=["organisation_id", "idempotency_key"])
    .returning(col(CommandRow.id))
    for name, dialect_insert in _INSERTS
}
_KEEP_SCRIPT: Final = {
    name: (statement := dialect_insert(ScriptRow)).on_conflict_do_update(
        index_elements=["organisation_id", "sha256"], set_={"used_at": statement.excluded.used_at}
    )
    for name, dialect_insert in _INSERTS
}
_SAVE: Final = update(CommandRow).where(
    col(CommandRow.id) == bindparam("of_id"),
    col(CommandRow.organisation_id) == bindparam("of_organisation"),
    col(CommandRow.version) == bindparam("from_version"),
)
_FIND: Final = select(CommandRow).where(
    col(CommandRow.id) == bindparam("of_id"), col(CommandRow.organisation_id) == bindparam("of_organisation")
)
_FIND_BY_KEY: Final = select(CommandRow).where(
    col(CommandRow.organisation_id) == bindparam("of_organisation"),
    col(CommandRow.idempotency_key) == bindparam("of_key"),
)
_SCRIPT: Final = select(col(ScriptRow.body)).where(
    col(ScriptRow.organisation_id) == bindparam("of_organisation"), col(ScriptRow.sha256) == bindparam("of_hash")
)
_STREAM: Final = (
    col(CommandOutputRow.command_id) == bindparam("of_command"),
    col(CommandOutputRow.stream) == bindparam("of_stream"),
    col(CommandOutputRow.organisation_id) == bindparam("of_organisation"),
)
_STORED_END: Final = select(
    func.coalesce(func.max(col(CommandOutputRow.start_offset) + func.length(col(CommandOutputRow.data))), 0)
).where(*_STREAM)
_ADD_OUTPUT: Final = {
    name: dialect_insert(CommandOutputRow).on_conflict_do_nothing().returning(col(CommandOutputRow.start_offset))
    for name, dialect_insert in _INSERTS
}
_SIZES: Final = (
    select(
        col(CommandOutputRow.command_id),
        col(CommandOutputRow.stream),
        func.max(col(CommandOutputRow.start_offset) + func.length(col(CommandOutputRow.data))),
    )
    .where(
        col(CommandOutputRow.command_id).in_(bindparam("of_commands", expanding=True)),
        col(CommandOutputRow.organisation_id) == bindparam("of_organisation"),
    )
    .group_by(col(CommandOutputRow.command_id), col(CommandOutputRow.stream))
)
_READ_OUTPUT: Final = (
    select(col(CommandOutputRow.start_offset), col(CommandOutputRow.data))
    .where(
        *_STREAM,
        col(CommandOutputRow.start_offset)
        >= select(func.coalesce(func.max(col(CommandOutputRow.start_offset)), 0))
        .where(*_STREAM, col(CommandOutputRow.start_offset) <= bindparam("from_offset", type_=BigInteger))
        .scalar_subquery(),
        col(CommandOutputRow.start_offset) < bindparam("to_offset", type_=BigInteger),
    )
    .order_by(col(CommandOutputRow.start_offset))
)
_IS_OPEN: Final = col(CommandRow.finished_at).is_(None)
_NOT_ENDED: Final = frozenset(CommandStatus) - TERMINAL
_BEFORE: Final = bindparam("before_moment", type_=UtcDateTime)
_NO_CHANGE: Final = datetime(1970, 1, 2, tzinfo=UTC)
_AHEAD: Final = bindparam("ahead_moment", type_=UtcDateTime)
_ENDED_BEFORE: Final = (
    select(col(CommandRow.changed_at), col(CommandRow.id))
    .where(
        tuple_(col(CommandRow.changed_at), col(CommandRow.id))
        > tuple_(bindparam("from_moment", type_=UtcDateTime), bindparam("of_id")),
        col(CommandRow.changed_at) < _BEFORE,
        # An earlier version, that runs on beside this one, notes no changes. What is ahead was signed, and stays so.
        or_(
            col(CommandRow.created_at) < _BEFORE,
            and_(col(CommandRow.created_at) > _AHEAD, col(CommandRow.changed_at) > _NO_CHANGE),
        ),
        ~_IS_OPEN,
    )
    .order_by(col(CommandRow.changed_at), col(CommandRow.id))
    .limit(bindparam("at_most"))
)
_IS_AHEAD: Final = col(CommandRow.changed_at) > _AHEAD
_SETTLE: Final = (
    update(CommandRow)
    .where(col(CommandRow.id).in_(select(col(CommandRow.id)).where(_IS_AHEAD).limit(bindparam("at_most"))), _IS_AHEAD)
    .values(changed_at=bindparam("to_moment", type_=UtcDateTime))
)
_SETTLE_SCRIPTS: Final = (
    update(ScriptRow).where(col(ScriptRow.used_at) > _AHEAD).values(used_at=bindparam("to_moment", type_=UtcDateTime))
)
LISTED_DATA_MAX_CHARS: Final = 4096
_DATA: Final = col(CommandRow.command_data)
_LISTED: Final = (
    *(
        column
        for column in inspect(CommandRow).columns
        if column.name not in {"payload", "signatures", "command_data", "result", "changed_at"}
    ),
    func.substr(col(CommandRow.result), 1, LISTED_DATA_MAX_CHARS + 1).label("result"),
    case((func.length(cast(_DATA, Text)) <= LISTED_DATA_MAX_CHARS, _DATA), else_=None).label("command_data"),
)
_COMMAND_DATA: Final = select(_DATA).where(
    col(CommandRow.id) == bindparam("of_id"), col(CommandRow.organisation_id) == bindparam("of_organisation")
)


class CommandStore:
    def add(self, connection: Connection, command: Command) -> bool:
        """Return False, and add nothing, when the organisation has a command with this idempotency key."""
        dialect = connection.dialect.name
        if command.script_sha256 is not None:
            connection.execute(
                _KEEP_SCRIPT[dialect],
                {
                    "organisation_id": command.organisation_id,
                    "sha256": command.script_sha256,
                    "body": command.script,
                    "used_at": command.created_at,
                },
            )
        values = msgspec.structs.asdict(command)
        del values["script"]
        values["signatures"] = msgspec.to_builtins(command.signatures)
        values["status"] = command.status.value
        values["output_bytes"] = _by_name(command.output_bytes)
        values["changed_at"] = command.created_at
        return connection.execute(_ADD[dialect], values).first() is not None

    def save(self, connection: Connection, before: Command, after: Command, at: datetime) -> bool:
        """Write what changed in the life of a command; its order and signatures never do. `at`: the hub's time.

        Return False, and write nothing, when somebody else has changed it since `before` was read.
        """
        values = {name: getattr(after, name) for name in _CHANGING}
        values["output_bytes"] = _by_name(after.output_bytes)
        values["changed_at"] = at
        keys = {"of_id": after.id, "of_organisation": after.organisation_id, "from_version": before.version}
        return connection.execute(_SAVE, values | keys).rowcount == 1

    def find(self, connection: Connection, organisation_id: str, command_id: str) -> Command | None:
        row = connection.execute(_FIND, {"of_id": command_id, "of_organisation": organisation_id}).first()
        return None if row is None else _command(row)

    def find_by_key(self, connection: Connection, organisation_id: str, key: str) -> Command | None:
        row = connection.execute(_FIND_BY_KEY, {"of_key": key, "of_organisation": organisation_id}).first()
        return None if row is None else _command(row)

    def script(self, connection: Connection, organisation_id: str, sha256: str) -> bytes | None:
        """Return the script with this hash, or what somebody with the database made of it."""
        body: Any = connection.scalar(_SCRIPT, {"of_organisation": organisation_id, "of_hash": sha256})
        return body if body is None or isinstance(body, bytes) else str(body).encode()

    def page(self, connection: Connection, organisation_id: str, request: CommandsList) -> tuple[list[Command], int]:
        """Return the commands asked for, newest first, and how many there are in all; with `after`, how many follow it.

        They are without what signs them, and without data of more than LISTED_DATA_MAX_CHARS: ask for it one by one.
        """
        conditions: list[ColumnElement[bool]] = [col(CommandRow.organisation_id) == organisation_id]
        if request.agent_id is not None:
            conditions.append(col(CommandRow.agent_id) == request.agent_id)
        if request.created_by is not None:
            conditions.append(col(CommandRow.created_by) == request.created_by)
        if request.from_ms is not None:
            since = datetime.fromtimestamp(min(request.from_ms, _LAST_MS) / 1000, UTC)
            conditions.append(col(CommandRow.created_at) >= since)
        if request.status is not None:
            conditions.append(col(CommandRow.status) == request.status.value)
        if request.ended is not None or request.status in _NOT_ENDED:
            conditions.append(~_IS_OPEN if request.ended else _IS_OPEN)
        if request.after is not None:
            conditions.append(_follows(organisation_id, request.after))
        total = connection.scalar(select(func.count()).select_from(CommandRow).where(*conditions))
        rows = connection.execute(
            select(*_LISTED)
            .where(*conditions)
            .order_by(col(CommandRow.created_at).desc(), col(CommandRow.id))
            .limit(request.limit)
            .offset(request.offset)
        )
        return [_command(row) for row in rows], total or 0

    def command_data(self, connection: Connection, organisation_id: str, command_id: str) -> dict[str, Any]:
        data = connection.scalar(_COMMAND_DATA, {"of_id": command_id, "of_organisation": organisation_id})
        return data or {}

    def load_counts(self, connection: Connection) -> dict[str, int]:
        """Return how many commands of each agent are kept."""
        agent = col(CommandRow.agent_id)
        rows = connection.execute(select(agent, func.count()).group_by(agent))
        return {row[0]: row[1] for row in rows}

    def open_counts(self, connection: Connection, organisation_ids: Collection[str]) -> Mapping[str, int]:
        """Return how many commands of each of these organisations have not ended; one without any is missing."""
        organisation = col(CommandRow.organisation_id)
        rows = connection.execute(
            select(organisation, func.count())
            .where(organisation.in_(organisation_ids), _IS_OPEN)
            .group_by(organisation)
        )
        return {row[0]: row[1] for row in rows}

    def add_output(
        self,
        connection: Connection,
        organisation_id: str,
        command_id: str,
        stream: OutputStream,
        *,
        offset: int,
        data: bytes,
    ) -> bool:
        """Return False, and add nothing, unless exactly the bytes below `offset` are stored."""
        stored_end = connection.scalar(
            _STORED_END, {"of_command": command_id, "of_stream": stream.value, "of_organisation": organisation_id}
        )
        if stored_end != offset:
            return False
        row = {
            "organisation_id": organisation_id,
            "command_id": command_id,
            "stream": stream.value,
            "start_offset": offset,
            "data": data,
        }
        return connection.execute(_ADD_OUTPUT[connection.dialect.name], row).first() is not None

    def output_sizes(
        self, connection: Connection, organisation_id: str, command_ids: Sequence[str]
    ) -> Mapping[str, dict[OutputStream, int]]:
        """Return how many bytes of each stream are stored; every given command has an entry."""
        sizes: dict[str, dict[OutputStream, int]] = {
            command_id: dict.fromkeys(OutputStream, 0) for command_id in command_ids
        }
        rows = connection.execute(_SIZES, {"of_commands": command_ids, "of_organisation": organisation_id})
        for found in rows:
            sizes[found[0]][OutputStream(found[1])] = int(found[2])
        return sizes

    def read_output(
        self,
        connection: Connection,
        organisation_id: str,
        command_id: str,
        stream: OutputStream,
        *,
        offset: int,
        limit_bytes: int,
    ) -> bytes:
        """Return the stored bytes from `offset` on, `limit_bytes` at most."""
        rows = connection.execute(
            _READ_OUTPUT,
            {
                "of_command": command_id,
                "of_stream": stream.value,
                "of_organisation": organisation_id,
                "from_offset": offset,
                "to_offset": offset + limit_bytes,
            },
        )
        return b"".join(data[max(0, offset - start) :] for start, data in rows)[:limit_bytes]

    def settle(self, connection: Connection, ahead: datetime, now: datetime, limit: int) -> int:
        """Say of scripts used after `ahead`, and of `limit` commands changed then, that it was now. Return how many."""
        values = {"ahead_moment": ahead, "to_moment": now}
        connection.execute(_SETTLE_SCRIPTS, values)
        return connection.execute(_SETTLE, values | {"at_most": limit}).rowcount

    def ended_before(
        self, connection: Connection, cutoff: datetime, ahead: datetime, after: tuple[datetime, str], limit: int
    ) -> list[tuple[datetime, str]]:
        """Return when the end was stored, and the id, of commands whose end was stored before `cutoff`, in that order,
        from `after` on. What an agent's clock says of it keeps nothing and deletes nothing.

        Of those made after `ahead`, when no clock is yet, the time of their making does not count.
        """
        values = {"before_moment": cutoff, "ahead_moment": ahead, "from_moment": after[0], "of_id": after[1]}
        return [(row[0], row[1]) for row in connection.execute(_ENDED_BEFORE, values | {"at_most": limit})]

    def delete_output(self, connection: Connection, command_ids: Collection[str]) -> int:
        """Delete what these commands printed. Return how many pieces that were."""
        rows = delete(CommandOutputRow).where(col(CommandOutputRow.command_id).in_(command_ids))
        return connection.execute(rows).rowcount

    def delete_commands(self, connection: Connection, command_ids: Collection[str]) -> int:
        """Delete these commands with their output."""
        return connection.execute(delete(CommandRow).where(col(CommandRow.id).in_(command_ids))).rowcount

    def delete_scripts(self, connection: Connection, cutoff: datetime, limit: int) -> int:
        """Delete scripts that no command kept has, and that none was made with since `cutoff`."""
        has_command = exists(literal_column("1")).where(
            col(CommandRow.organisation_id) == col(ScriptRow.organisation_id),
            col(CommandRow.script_sha256) == col(ScriptRow.sha256),
        )
        old = (
            select(col(ScriptRow.organisation_id), col(ScriptRow.sha256))
            .where(col(ScriptRow.used_at) < cutoff, ~has_command)
            .limit(limit)
        )
        key = tuple_(col(ScriptRow.organisation_id), col(ScriptRow.sha256))
        return connection.execute(delete(ScriptRow).where(key.in_(old), col(ScriptRow.used_at) < cutoff)).rowcount


def _follows(organisation_id: str, command_id: str) -> ColumnElement[bool]:
    """Return what holds of the commands that are behind this one in a list."""
    of_it = select(col(CommandRow.created_at)).where(
        col(CommandRow.id) == command_id, col(CommandRow.organisation_id) == organisation_id
    )
    made_at = of_it.scalar_subquery()
    same = and_(col(CommandRow.created_at) == made_at, col(CommandRow.id) > command_id)
    return or_(col(CommandRow.created_at) < made_at, same)


def _by_name(sizes: Mapping[OutputStream, int]) -> dict[str, int]:
    return {stream.value: size for stream, size in sizes.items()}


def _command(row: Row[Any]) -> Command:
    fields = row._asdict()
    fields.pop("changed_at", None)
    fields["status"] = CommandStatus(fields["status"])
    fields["reason"] = None if fields["reason"] is None else CommandReason(fields["reason"])
    fields["payload"] = fields.get("payload", b"")
    if not isinstance(fields["payload"], bytes):  # altered by somebody with the database: the agent shall refuse it
        fields["payload"] = str(fields["payload"]).encode()
    fields["command_data"] = fields["command_data"] or {}
    fields["signatures"] = msgspec.convert(fields.get("signatures", []), list[Signature])
    fields["output_bytes"] = {OutputStream(stream): size for stream, size in fields["output_bytes"].items()}
    return Command(**fields)
