"""Steps of commands, each within one transaction: read, taken as the engine says, saved."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
import structlog
from sqlalchemy import Connection

from hub_server.commands.engine import Dispatched, Signal
from hub_server.commands.model import Command, OpenCommand
from hub_server.commands.recorder import changed_within, step_of
from hub_server.commands.store import CommandStore

log = structlog.get_logger(component="commands")

Taken = tuple[Command, Command]
"""A command before its step and after it: the same object where nothing changed."""


class Steps:
    """All raise RaceLost when others change a command all the time."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store

    def take(
        self,
        connection: Connection,
        *,
        organisation_id: str,
        agent_id: str,
        command_id: str,
        signal: Signal,
        now: datetime,
    ) -> Taken | None:
        """Take a command to where `signal` leads; None when the agent has no such command. `now`: the hub's time."""
        found = self._store.find(connection, organisation_id, command_id)
        if found is None or found.agent_id != agent_id:
            log.warning("not a command of this agent", agent_id=agent_id, command_id=command_id)
            return None

        def change(before: Command) -> tuple[Taken, Command]:
            after = step_of(before, signal)
            return (before, after), after

        return changed_within(connection, self._store, found, change, now)

    def mark_sent(self, commands: Iterable[OpenCommand], at: datetime, connection: Connection) -> dict[str, Taken]:
        """Return the steps by id, with the scripts that are to be sent; those that are gone are missing.

        In the order of ids, so that two hubs never wait for each other.
        """
        steps: dict[str, Taken] = {}
        for command in sorted(commands, key=lambda each: each.id):
            step = self.take(
                connection,
                organisation_id=command.organisation_id,
                agent_id=command.agent_id,
                command_id=command.id,
                signal=Dispatched(at),
                now=at,
            )
            if step is not None:
                before, after = step
                steps[command.id] = before, self._with_script(connection, after)
        return steps

    def ended(self, commands: Iterable[OpenCommand], connection: Connection) -> dict[str, Command]:
        """Return those that have ended, by id."""
        found = (self._store.find(connection, command.organisation_id, command.id) for command in commands)
        return {command.id: command for command in found if command is not None and command.has_ended}

    def _with_script(self, connection: Connection, command: Command) -> Command:
        if command.script_sha256 is None:
            return command
        script = self._store.script(connection, command.organisation_id, command.script_sha256)
        return msgspec.structs.replace(command, script=script or b"")
