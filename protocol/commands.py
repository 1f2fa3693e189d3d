"""Operations on commands: what people and scripts ask of a machine, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from protocol.enumerations import CommandReason, CommandStatus, OutputStream, TextEncoding
from protocol.envelope import TimeoutSeconds
from protocol.events import Instant, Shape
from protocol.frames import ByteOffset, CommandId, Word
from protocol.requests import Limit, Offset, Reply, Request


class CommandsCreate(Request, frozen=True):
    """`commandData` of `exec` is a `protocol.envelope.ExecData`. The same idempotency key gives the same command."""

    agent_id: Word
    command_data: dict[str, Any]
    command_type: Literal["exec"] = "exec"
    timeout_sec: TimeoutSeconds | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class CommandView(Shape, frozen=True):
    id: str
    agent_id: str
    command_type: str
    command_data: dict[str, Any]
    status: CommandStatus
    reason: CommandReason | None
    exit_code: int | None
    result: str
    created_at: Instant
    created_by: str
    started_at: Instant | None
    finished_at: Instant | None
    expires_at: Instant
    output_bytes: dict[OutputStream, int]
    truncated: bool


class CommandReply(Reply, frozen=True):
    command: CommandView


class CommandsList(Request, frozen=True):
    agent_id: Word | None = None
    status: CommandStatus | None = None
    limit: Limit = 50
    offset: Offset = 0


class CommandsListReply(Reply, frozen=True):
    commands: list[CommandView]
    total: int
    limit: int
    offset: int


class CommandsGet(Request, frozen=True):
    command_id: CommandId


class CommandsCancel(Request, frozen=True):
    command_id: CommandId


class CommandsOutput(Request, frozen=True):
    command_id: CommandId
    stream: OutputStream
    offset: ByteOffset = 0


class CommandsOutputReply(Reply, frozen=True):
    """Output from `offset` on, at most 64 KiB; ask again from `next_offset` until `complete`."""

    command_id: str
    stream: OutputStream
    offset: int
    data: str
    encoding: TextEncoding
    next_offset: int
    complete: bool
