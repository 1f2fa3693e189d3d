"""Commands as people and agents see them. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hub_server.clock import milliseconds
from hub_server.commands.model import Command, OpenCommand
from hub_server.events import CommandStatusChanged
from protocol.actions import AnyData, ScriptData, script_bytes, script_hash
from protocol.commands import CommandView
from protocol.enumerations import OutputStream
from protocol.envelope import JobEnvelope
from protocol.frames import Command as CommandFrame

LISTED_MAX_BYTES: Final = 4096
"""Of a command's data, as JSON, and of its result, in a list."""
LISTED_ITEMS_MAX: Final = 16
LISTED_CHARS: Final = (256, 64, 16)
"""How much is left of each text in there: the most with which the whole is small enough."""
CUT: Final = "\N{HORIZONTAL ELLIPSIS}"


def frame_of(command: Command) -> CommandFrame:
    """Return the frame for the agent, with the payload as it is stored: the agent refuses one that was altered."""
    return CommandFrame(
        command_id=command.id,
        command_type=command.command_type,
        command_data=command.command_data,
        payload=base64.b64encode(command.payload).decode(),
        signatures=command.signatures,
        expires_at=milliseconds(command.expires_at),
        script=base64.b64encode(command.script).decode(),
    )


def told_of(command: Command | OpenCommand) -> CommandStatusChanged:
    """Return what is said of a command that goes on."""
    return CommandStatusChanged(
        organisation_id=command.organisation_id,
        agent_id=command.agent_id,
        command_id=command.id,
        status=command.status,
        cancel_requested=command.cancel_requested,
    )


def kept_data_of(command_data: Mapping[str, Any], data: AnyData) -> dict[str, Any]:
    """Return what is kept of `command_data` for people: a script's hash and length in place of its text."""
    if not isinstance(data, ScriptData):
        return dict(command_data)
    script = script_bytes(data)
    others = {name: value for name, value in command_data.items() if name != "script"}
    return {"scriptSha256": script_hash(script), "scriptBytes": len(script), **others}


def whole_data_of(command_data: Mapping[str, Any], script: bytes) -> dict[str, Any]:
    """Return `command_data` as a person gave it: the contrary of `kept_data_of`."""
    others = {name: value for name, value in command_data.items() if name not in {"scriptSha256", "scriptBytes"}}
    return {"script": script.decode(errors="replace"), **others}


def view_of(command: Command, kept_bytes: Mapping[OutputStream, int]) -> CommandView:
    """`kept_bytes`: how much of each stream the store or the memory of the hub has."""
    return CommandView(
        id=command.id,
        agent_id=command.agent_id,
        command_type=command.command_type,
        command_data=command.command_data,
        status=command.status,
        reason=command.reason,
        exit_code=command.exit_code,
        result=command.result,
        created_at=command.created_at,
        created_by=command.created_by,
        sent_at=command.sent_at,
        started_at=command.started_at,
        finished_at=command.finished_at,
        expires_at=command.expires_at,
        output_bytes={stream: max(kept, command.output_bytes.get(stream, 0)) for stream, kept in kept_bytes.items()},
        truncated=command.truncated,
        kept_bytes=dict(kept_bytes),
        timeout_sec=command.timeout_sec,
        cancel_requested=command.cancel_requested,
        purpose=command.purpose,
    )


def listed_view_of(command: Command, kept_bytes: Mapping[OutputStream, int], *, is_cut: bool) -> CommandView:
    """Return the view for lists, with data and result of LISTED_MAX_BYTES each at most; it says when they are cut.

    `is_cut`: the data are shortened already.
    """
    view = view_of(command, kept_bytes)
    data = shortened(view.command_data)
    result = view.result if len(view.result.encode()) <= LISTED_MAX_BYTES else _cut(view.result, LISTED_MAX_BYTES // 4)
    if not is_cut and data is view.command_data and result is view.result:
        return view
    return msgspec.structs.replace(view, command_data=data, result=result, shortened=True)


def shortened(command_data: dict[str, Any]) -> dict[str, Any]:
    """Return `command_data` itself where it is small, else the beginning of it in the same shape."""
    if len(msgspec.json.encode(command_data)) <= LISTED_MAX_BYTES:
        return command_data
    beginning = command_data
    for limit_chars in LISTED_CHARS:
        beginning = {name: _beginning(value, limit_chars) for name, value in command_data.items()}
        if len(msgspec.json.encode(beginning)) <= LISTED_MAX_BYTES:
            break
    return beginning


def says_the_same(command: Command, order: JobEnvelope) -> bool:
    """Tell whether `command` does what `order` asks for, whenever either was given."""
    return _sameness_of(msgspec.json.decode(command.payload, type=JobEnvelope)) == _sameness_of(order)


def _sameness_of(envelope: JobEnvelope) -> tuple[object, ...]:
    return (
        envelope.agent_id, envelope.action, envelope.argv, envelope.environment, envelope.working_directory,
        envelope.timeout_sec, envelope.run_as, envelope.interpreter, envelope.script_sha256,
    )  # fmt: skip


def _beginning(value: Any, limit_chars: int) -> Any:
    match value:
        case str():
            return _cut(value, limit_chars)
        case list():
            cut = [_cut(str(item), limit_chars) for item in value[:LISTED_ITEMS_MAX]]
            return cut if len(value) <= LISTED_ITEMS_MAX else [*cut, CUT]
        case dict():
            few = list(value.items())[:LISTED_ITEMS_MAX]
            return {_cut(name, limit_chars): _cut(str(item), limit_chars) for name, item in few}
        case _:
            return value


def _cut(text: str, limit_chars: int) -> str:
    return text if len(text) <= limit_chars else text[:limit_chars] + CUT
