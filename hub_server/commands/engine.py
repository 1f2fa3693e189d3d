"""How a command goes from PENDING to its one end, which bytes of its output are kept, and how they are shown. Pure.

    PENDING ── Dispatched ─→ SENT ── Started ─→ EXECUTING ── Finished ─→ COMPLETED, FAILED or CANCELLED

What an agent says counts from any open state: a hub that lost its last second still hears what was run. A command that
has ended stays as it is, whatever comes: the first end wins. A step that is not in the table is illegal.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, assert_never

import msgspec
from msgspec import Struct

from hub_server.commands.model import Command
from protocol.enumerations import CommandOutcome, CommandReason, CommandStatus, OutputStream, TextEncoding
from protocol.limits import OUTPUT_CREDITS


class Dispatched(Struct, frozen=True):
    """The frame goes to the agent now, for the first time or again."""

    at: datetime


class Accepted(Struct, frozen=True):
    """The agent has checked the order and will run it."""


class Started(Struct, frozen=True):
    at: datetime


class Finished(Struct, frozen=True, kw_only=True):
    """The agent reports an end: of the process, or a refusal."""

    outcome: CommandOutcome
    at: datetime
    reason: CommandReason | None = None
    exit_code: int | None = None
    result: str = ""
    started_at: datetime | None = None
    truncated: bool = False
    output_bytes: Mapping[OutputStream, int] = {}


class Expired(Struct, frozen=True):
    """Its time to begin is over, and its agent does not know it."""

    at: datetime


class NeverSent(Struct, frozen=True):
    """Its time to begin is over, and it waits still. One that another hub sent meanwhile may have begun."""

    at: datetime


class CancelRequested(Struct, frozen=True):
    at: datetime


class NeverBegun(Struct, frozen=True):
    """The agent does not know this order, and a person does not want it any more."""

    at: datetime


class Lost(Struct, frozen=True):
    """The agent began it and knows nothing of it now: nobody can say how it ended."""

    at: datetime


Signal = Dispatched | Accepted | Started | Finished | Expired | NeverSent | CancelRequested | NeverBegun | Lost


class IllegalStep(Exception):
    """A signal out of order. The command is unchanged."""

    def __init__(self, command: Command, signal: Signal) -> None:
        super().__init__(f"command {command.id} is {command.status}: {type(signal).__name__} is out of order")
        self.command = command
        self.signal = signal


_PENDING, _SENT, _EXECUTING = CommandStatus.PENDING, CommandStatus.SENT, CommandStatus.EXECUTING
WAITING_BYTES_MAX: Final = 8 * 1024 * 1024
"""Output of all commands that waits in memory to be stored."""
_REPORTED: Final = None
"""The end that the signal names itself."""

STEPS: Final[Mapping[tuple[CommandStatus, type[Signal]], CommandStatus | None]] = {
    (_PENDING, Dispatched): _SENT,
    (_PENDING, Accepted): _SENT,
    (_PENDING, Started): _EXECUTING,
    (_PENDING, Finished): _REPORTED,
    (_PENDING, Expired): CommandStatus.FAILED,
    (_PENDING, NeverSent): CommandStatus.FAILED,
    (_PENDING, CancelRequested): CommandStatus.CANCELLED,
    (_SENT, Dispatched): _SENT,  # again after a reconnect
    (_SENT, Accepted): _SENT,
    (_SENT, Started): _EXECUTING,
    (_SENT, Finished): _REPORTED,
    (_SENT, Expired): CommandStatus.FAILED,
    (_SENT, CancelRequested): _SENT,  # it may have begun: only the agent can tell
    (_SENT, NeverBegun): CommandStatus.CANCELLED,
    (_EXECUTING, Accepted): _EXECUTING,  # late
    (_EXECUTING, Started): _EXECUTING,  # repeated
    (_EXECUTING, Finished): _REPORTED,
    (_EXECUTING, CancelRequested): _EXECUTING,
    (_EXECUTING, Lost): CommandStatus.FAILED,
}


def advance(command: Command, signal: Signal) -> Command:
    """Return `command` as it stands after `signal`; `command` itself when nothing changed.

    Raises IllegalStep when the signal is out of order.
    """
    if command.has_ended:
        return command
    step = (command.status, type(signal))
    if step not in STEPS:
        raise IllegalStep(command, signal)
    changes = _changes(command, signal)
    status = STEPS[step]
    if status is not None:
        changes["status"] = status
    changed = {name: value for name, value in changes.items() if getattr(command, name) != value}
    if not changed:
        return command
    return msgspec.structs.replace(command, **changed, version=command.version + 1)


def _changes(command: Command, signal: Signal) -> dict[str, Any]:
    """No agent's clock puts anything before the command was made: what seems to be old is deleted."""
    made_at = command.created_at
    match signal:
        case Dispatched():
            return {"sent_at": command.sent_at or signal.at}
        case Accepted():
            return {}
        case Started():
            return {"started_at": command.started_at or max(signal.at, made_at)}
        case Finished():
            return {
                "status": CommandStatus(signal.outcome.value),
                "reason": signal.reason,
                "exit_code": signal.exit_code,
                "result": signal.result,
                "started_at": command.started_at if signal.started_at is None else max(signal.started_at, made_at),
                "finished_at": max(signal.at, made_at),
                "truncated": command.truncated or signal.truncated,
                "output_bytes": dict(signal.output_bytes),
            }
        case Expired() | NeverSent():
            return {"reason": CommandReason.EXPIRED, "finished_at": signal.at}
        case CancelRequested():
            if command.status is _PENDING:
                return _cancelled(signal.at)
            return {"cancel_requested": True}
        case NeverBegun():
            return _cancelled(signal.at)
        case Lost():
            return {"reason": CommandReason.UNKNOWN, "finished_at": signal.at}
        case _:
            assert_never(signal)


def _cancelled(at: datetime) -> dict[str, Any]:
    return {"cancel_requested": True, "reason": CommandReason.CANCELLED_BY_PERSON, "finished_at": at}


class Kept(Struct, frozen=True):
    """`data` is stored from the held offset on; `offset` is acknowledged: everything below needs no repeating."""

    data: bytes
    offset: int
    truncated: bool


def kept_of(data: bytes, *, offset: int, held_bytes: int, limit_bytes: int) -> Kept:
    """Return what is new in `data`, which starts at `offset`, for a stream of which `held_bytes` are stored.

    A gap keeps nothing: the agent is told where to go on. What is beyond the limit is acknowledged and dropped.
    """
    end = offset + len(data)
    if held_bytes >= limit_bytes:
        return Kept(b"", max(end, held_bytes), end > limit_bytes)
    if offset > held_bytes or end <= held_bytes:
        return Kept(b"", held_bytes, False)
    kept = data[held_bytes - offset : limit_bytes - offset]
    return Kept(kept, end, held_bytes + len(kept) < end)


def credits_of(waiting_bytes: int) -> int:
    """Return how many chunks an agent may have on their way while as much waits to be stored: 0 when it is too much."""
    return max(0, OUTPUT_CREDITS - OUTPUT_CREDITS * waiting_bytes // WAITING_BYTES_MAX)


def with_waiting(stored: bytes, offset: int, waiting: Sequence[tuple[int, bytes]], limit_bytes: int) -> bytes:
    """Return the bytes from `offset` on, `limit_bytes` at most: those `stored`, then those that `waiting` goes on with.

    `waiting`: pieces and where they start, in order, as they stood before the store was asked: what was stored in
    between is in both.
    """
    known = bytearray(stored)
    for start, data in waiting:
        end = offset + len(known)
        if start <= end < start + len(data):
            known += data[end - start :]
    return bytes(known[:limit_bytes])


class Page(Struct, frozen=True):
    data: str
    encoding: TextEncoding
    bytes_shown: int


def page_of(data: bytes, *, is_end: bool) -> Page:
    """Return `data` as text, without a character that is cut at its end; in base64 where it is no text.

    `is_end`: nothing will ever follow, so that a cut character is all there is of it.
    """
    if b"\0" in data:
        return Page(base64.b64encode(data).decode(), TextEncoding.BASE64, len(data))
    try:
        return Page(data.decode(), TextEncoding.UTF8, len(data))
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data"
        if is_cut and (error.start > 0 or not is_end):
            return Page(data[: error.start].decode(), TextEncoding.UTF8, error.start)
        return Page(base64.b64encode(data).decode(), TextEncoding.BASE64, len(data))
