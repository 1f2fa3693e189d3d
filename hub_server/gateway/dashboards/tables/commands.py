"""Operations on commands."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.commands.service import CommandService
from hub_server.gateway.dashboards.operations import Entry, Table


def command_operations(commands: CommandService) -> Table:
    return {
        "commands:create": Entry(
            Permission.COMMANDS_RUN, lambda caller, request: commands.create(caller.principal, request)
        ),
        "commands:list": Entry(
            Permission.COMMANDS_READ, lambda caller, request: commands.list(caller.principal, request)
        ),
        "commands:get": Entry(
            Permission.COMMANDS_READ, lambda caller, request: commands.get(caller.principal, request)
        ),
        "commands:cancel": Entry(
            Permission.COMMANDS_RUN, lambda caller, request: commands.cancel(caller.principal, request)
        ),
        "commands:output": Entry(
            Permission.COMMANDS_READ, lambda caller, request: commands.output(caller.principal, request)
        ),
    }
