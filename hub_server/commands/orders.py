"""The order that the hub makes of a request, and its bytes."""

from __future__ import annotations

from typing import Final

import msgspec

from hub_server.errors import InvalidRequest
from protocol.actions import AnyData, BadOrder, data_of
from protocol.commands import CommandsCreate
from protocol.envelope import JobEnvelope
from protocol.limits import FRAME_MAX_BYTES

PAYLOAD_MAX_BYTES: Final = FRAME_MAX_BYTES


def checked_data_of(request: CommandsCreate) -> AnyData:
    """Return the order in `commandData`. Raises InvalidRequest with the path of the field at fault."""
    try:
        return data_of(request.command_type, request.command_data)
    except BadOrder as error:
        raise InvalidRequest(str(error), path=f"$.commandData{error.path[1:]}") from error


def encoded(envelope: JobEnvelope) -> bytes:
    """Return the bytes to sign. Raises InvalidRequest."""
    try:
        payload = msgspec.json.encode(envelope)
    except UnicodeEncodeError as error:
        raise InvalidRequest("the command holds text that is no Unicode", path="$.commandData") from error
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise InvalidRequest(
            f"the command is too large: {len(payload)} bytes; at most {PAYLOAD_MAX_BYTES}", path="$.commandData"
        )
    return payload
