"""The operations table: name → permission, request, service. Nothing is dispatched by attribute name.

Each subject's entries stand in `tables/`; a name that two of them claim is an error at start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.errors import HubError, InvalidRequest
from protocol.codec import BadFrame, check_value, split_path
from protocol.codes import ErrorCode
from protocol.operations import OPERATIONS
from protocol.requests import Reply, Request


class UnknownOperation(HubError):
    code = ErrorCode.UNKNOWN_OPERATION


class Caller(NamedTuple):
    """Who asks, on which socket, in which sign-in."""

    principal: Principal
    socket_id: str
    session_id: str


class Entry(NamedTuple):
    """`run` is given a request of the type that OPERATIONS names."""

    permission: Permission
    run: Callable[[Caller, Any], Awaitable[Reply]]


Table = Mapping[str, Entry]


class Operations:
    def __init__(self, tables: Sequence[Table]) -> None:
        self.table: Table = {name: entry for table in tables for name, entry in table.items()}
        if len(self.table) != sum(len(table) for table in tables):
            raise ValueError("two subjects claim the same operation")

    async def ask(self, caller: Caller, name: str, body: Any) -> Reply:
        """Run one operation. Raises HubError; a wrong field's path is in it."""
        entry = self.table.get(name)
        if entry is None:
            raise UnknownOperation(f"there is no operation {name[:64]!r}")
        request = request_of(name, body)
        authorize(caller.principal, entry.permission)
        return await entry.run(caller, request)


def request_of(name: str, body: Any) -> Request:
    """Return the typed request. Raises InvalidRequest that names the field."""
    operation = OPERATIONS[name]
    try:
        check_value(body)
        return msgspec.convert({} if body is None else body, operation.request)
    except msgspec.ValidationError as error:
        message, path = split_path(str(error))
        raise InvalidRequest(f"{message} at {path}", path=path) from error
    except BadFrame as error:
        raise InvalidRequest(str(error), path="$") from error
