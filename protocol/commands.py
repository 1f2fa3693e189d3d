"""Operations on commands: what people and scripts ask of a machine, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from protocol.elements import ByteOffset, CommandId, UnixMs, Word
from protocol.enumerations import Action, CommandReason, CommandStatus, OutputStream, TextEncoding
from protocol.envelope import TimeoutSeconds
from protocol.events import Instant, Shape
from protocol.frames import Signature
from protocol.limits import COMMAND_EXPIRY_MAX_SECONDS, FRAME_MAX_BYTES
from protocol.requests import Limit, Offset, Reply, Request


class CommandsCreate(Request, frozen=True):
    """`commandData`: what `protocol.actions.DATA` has for the type. The same idempotency key gives the same command.

    `expires_in_sec`: how long it waits for a machine that is away, 15 minutes when None. `payload` and `signature`: an
    order that a person's key has signed: base64 of the bytes of its JobEnvelope, which must say what the other fields
    say. `reason`: why, for the audit and for whoever looks at the command (`purpose`); a policy may require it.
    """

    agent_id: Word
    command_data: dict[str, Any]
    command_type: Action = Action.EXEC
    timeout_sec: TimeoutSeconds | None = None
    expires_in_sec: Annotated[int, Meta(ge=1, le=COMMAND_EXPIRY_MAX_SECONDS)] | None = None
    payload: Annotated[str, Meta(max_length=2 * FRAME_MAX_BYTES)] | None = None
    signature: Signature | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


class CommandView(Shape, frozen=True):
    """`output_bytes`: what the process wrote, as far as it is known; `kept_bytes`: what `commands:output` has of it.

    `command_data` of a script has `scriptSha256` and `scriptBytes` in place of `script`, but for `commands:get`, which
    gives it as it was asked. `shortened`: data or result is cut in this list; `commands:get` has all. `purpose`: the
    `reason` that it was asked for with, empty where none was given.
    """

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
    sent_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    expires_at: Instant
    output_bytes: dict[OutputStream, int]
    truncated: bool
    kept_bytes: dict[OutputStream, int] = field(default_factory=dict)
    timeout_sec: float | None = None
    cancel_requested: bool = False
    shortened: bool = False
    purpose: str = ""


class CommandReply(Reply, frozen=True):
    command: CommandView


class CommandsList(Request, frozen=True):
    """`created_by`: an actor as `createdBy` names it. `from_ms`: made then or later. `ended`: only those that have, or
    only those that have not. `after`: the id of the last command of the page before, in place of `offset`: what is made
    meanwhile shifts no page then.
    """

    agent_id: Word | None = None
    status: CommandStatus | None = None
    created_by: Word | None = None
    from_ms: UnixMs | None = None
    ended: bool | None = None
    after: CommandId | None = None
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
