"""Commands and their output in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.commands.model import TERMINAL, Command, OpenCommand
from hub_server.commands.tables import CommandOutputRow, CommandRow
from protocol.commands import CommandsList
from protocol.enumerations import CommandReason, CommandStatus, OutputStream
from protocol.frames import Signature

_CHANGING = (
    "status",
    "reason",
    "exit_code",
    "result",
    "truncated",
    "sent_at",
    "started_at",
    "finished_at",
    "cancel_requested",
    "version",
)
_OPEN = [status.value for status in CommandStatus if status not in TERMINAL]


class CommandStore:
    async def add(self, connection: AsyncConnection, command: Command) -> bool:
        """Return False, and add nothing, when the organisation has a command with this idempotency key."""
        dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        values = msgspec.structs.asdict(command)
        values["signatures"] = msgspec.to_builtins(command.signatures)
        values["status"] = command.status.value
        result = await connection.execute(
            dialect_insert(CommandRow)
            .values(**values)
            .on_conflict_do_nothing(index_elements=["organisation_id", "idempotency_key"])
            .returning(col(CommandRow.id))
        )
        return result.first() is not None

    async def save(self, connection: AsyncConnection, command: Command) -> None:
        """Write what changes in the life of a command; its order and signatures never do."""
        values = {name: getattr(command, name) for name in _CHANGING}
        await connection.execute(
            update(CommandRow)
            .where(col(CommandRow.id) == command.id, col(CommandRow.organisation_id) == command.organisation_id)
            .values(**values)
        )

    async def find(
        self, connection: AsyncConnection, organisation_id: str, command_id: str, *, to_change: bool = False
    ) -> Command | None:
        """`to_change`: nobody else changes the command before this transaction ends."""
        statement = select(CommandRow).where(
            col(CommandRow.id) == command_id, col(CommandRow.organisation_id) == organisation_id
        )
        row = (await connection.execute(statement.with_for_update() if to_change else statement)).first()
        return None if row is None else _command(row)

    async def find_by_key(self, connection: AsyncConnection, organisation_id: str, key: str) -> Command | None:
        row = (
            await connection.execute(
                select(CommandRow).where(
                    col(CommandRow.organisation_id) == organisation_id, col(CommandRow.idempotency_key) == key
                )
            )
        ).first()
        return None if row is None else _command(row)

    async def page(
        self, connection: AsyncConnection, organisation_id: str, request: CommandsList
    ) -> tuple[list[Command], int]:
        """Return the commands asked for, newest first, and how many there are in all."""
        conditions: list[ColumnElement[bool]] = [col(CommandRow.organisation_id) == organisation_id]
        if request.agent_id is not None:
            conditions.append(col(CommandRow.agent_id) == request.agent_id)
        if request.status is not None:
            conditions.append(col(CommandRow.status) == request.status.value)
        total = await connection.scalar(select(func.count()).select_from(CommandRow).where(*conditions))
        rows = await connection.execute(
            select(CommandRow)
            .where(*conditions)
            .order_by(col(CommandRow.created_at).desc(), col(CommandRow.id))
            .limit(request.limit)
            .offset(request.offset)
        )
        return [_command(row) for row in rows], total or 0

    async def load_open(self, connection: AsyncConnection) -> list[OpenCommand]:
        """Return every organisation's commands that have not ended, oldest first."""
        row = CommandRow
        open_statuses = [status.value for status in CommandStatus if status not in TERMINAL]
        rows = await connection.execute(
            select(
                col(row.id),
                col(row.organisation_id),
                col(row.agent_id),
                col(row.status),
                col(row.expires_at),
                col(row.cancel_requested),
                func.length(col(row.payload)).label("payload_bytes"),
            )
            .where(col(row.status).in_(open_statuses))
            .order_by(col(row.created_at), col(row.id))
        )
        return [OpenCommand(**found._asdict() | {"status": CommandStatus(found.status)}) for found in rows]

    async def load_counts(self, connection: AsyncConnection) -> dict[str, int]:
        """Return how many commands each agent ever got."""
        agent = col(CommandRow.agent_id)
        rows = await connection.execute(select(agent, func.count()).group_by(agent))
        return {row[0]: row[1] for row in rows}

    async def open_counts(self, connection: AsyncConnection, organisation_ids: Collection[str]) -> Mapping[str, int]:
        """Return how many commands of each of these organisations have not ended; one without any is missing."""
        organisation = col(CommandRow.organisation_id)
        rows = await connection.execute(
            select(organisation, func.count())
            .where(organisation.in_(organisation_ids), col(CommandRow.status).in_(_OPEN))
            .group_by(organisation)
        )
        return {row[0]: row[1] for row in rows}

    async def add_output(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        command_id: str,
        stream: OutputStream,
        *,
        offset: int,
        data: bytes,
    ) -> bool:
        """Return False, and add nothing, when bytes from this offset on are stored already."""
        dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        result = await connection.execute(
            dialect_insert(CommandOutputRow)
            .values(
                organisation_id=organisation_id,
                command_id=command_id,
                stream=stream.value,
                start_offset=offset,
                data=data,
            )
            .on_conflict_do_nothing()
            .returning(col(CommandOutputRow.start_offset))
        )
        return result.first() is not None

    async def mark_truncated(self, connection: AsyncConnection, organisation_id: str, command_id: str) -> None:
        await connection.execute(
            update(CommandRow)
            .where(col(CommandRow.id) == command_id, col(CommandRow.organisation_id) == organisation_id)
            .values(truncated=True)
        )

    async def output_sizes(
        self, connection: AsyncConnection, organisation_id: str, command_ids: Collection[str]
    ) -> Mapping[str, dict[OutputStream, int]]:
        """Return how many bytes of each stream are stored; every given command has an entry."""
        row = CommandOutputRow
        sizes: dict[str, dict[OutputStream, int]] = {
            command_id: dict.fromkeys(OutputStream, 0) for command_id in command_ids
        }
        rows = await connection.execute(
            select(col(row.command_id), col(row.stream), func.sum(func.length(col(row.data))))
            .where(col(row.command_id).in_(command_ids), col(row.organisation_id) == organisation_id)
            .group_by(col(row.command_id), col(row.stream))
        )
        for found in rows:
            sizes[found[0]][OutputStream(found[1])] = int(found[2])
        return sizes

    async def read_output(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        command_id: str,
        stream: OutputStream,
        *,
        offset: int,
        limit_bytes: int,
    ) -> bytes:
        """Return the stored bytes from `offset` on, `limit_bytes` at most."""
        row = CommandOutputRow
        this_stream = (
            col(row.command_id) == command_id,
            col(row.stream) == stream.value,
            col(row.organisation_id) == organisation_id,
        )
        first = (
            select(func.coalesce(func.max(row.start_offset), 0))
            .where(*this_stream, col(row.start_offset) <= offset)
            .scalar_subquery()
        )
        rows = await connection.execute(
            select(col(row.start_offset), col(row.data))
            .where(*this_stream, col(row.start_offset) >= first, col(row.start_offset) < offset + limit_bytes)
            .order_by(col(row.start_offset))
        )
        return b"".join(data[max(0, offset - start) :] for start, data in rows)[:limit_bytes]


def _command(row: Row[Any]) -> Command:
    fields = row._asdict()
    fields["status"] = CommandStatus(fields["status"])
    fields["reason"] = None if fields["reason"] is None else CommandReason(fields["reason"])
    if not isinstance(fields["payload"], bytes):  # altered by somebody with the database: the agent shall refuse it
        fields["payload"] = str(fields["payload"]).encode()
    fields["signatures"] = msgspec.convert(fields["signatures"], list[Signature])
    return Command(**fields)
