"""A command as the hub keeps it, and the index of those that have not ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.enumerations import CommandReason, CommandStatus, OutputStream
from protocol.frames import Signature

TERMINAL: Final = frozenset({CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.CANCELLED})


class Command(Struct, frozen=True, kw_only=True):
    """An order of a person to one agent (seed 004, "AgentCommand"). `payload` holds the exact signed bytes.

    `command_data` has a script's hash in place of its text; `script` is its body, where it is about to be sent.
    `output_bytes`: what the process wrote, once its end is known, which may be more than is kept of it. `purpose`: why
    the person wants it, in their own words.
    """

    id: str
    organisation_id: str
    agent_id: str
    command_type: str
    command_data: dict[str, Any]
    payload: bytes
    signatures: list[Signature]
    status: CommandStatus
    created_at: datetime
    created_by: str
    expires_at: datetime
    idempotency_key: str | None = None
    reason: CommandReason | None = None
    exit_code: int | None = None
    result: str = ""
    truncated: bool = False
    sent_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False
    script_sha256: str | None = None
    script: bytes = b""
    timeout_sec: float | None = None
    output_bytes: dict[OutputStream, int] = {}
    purpose: str = ""
    version: int = 1

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL


FRAME_BYTES_PER_PAYLOAD_BYTE: Final = 3
"""A frame carries the payload in base64, and the same once more as data for people."""
FRAME_OVERHEAD_BYTES: Final = 1024


class OpenCommand(Struct, frozen=True, kw_only=True):
    """What the hub remembers of a command that has not ended."""

    id: str
    organisation_id: str
    agent_id: str
    status: CommandStatus
    expires_at: datetime
    cancel_requested: bool
    payload_bytes: int
    script_bytes: int = 0


def open_command_of(command: Command) -> OpenCommand:
    return OpenCommand(
        id=command.id,
        organisation_id=command.organisation_id,
        agent_id=command.agent_id,
        status=command.status,
        expires_at=command.expires_at,
        cancel_requested=command.cancel_requested,
        payload_bytes=len(command.payload),
        script_bytes=len(command.script),
    )


_WAY: Final = (CommandStatus.PENDING, CommandStatus.SENT, CommandStatus.EXECUTING)


def later_of(mine: OpenCommand, stored: OpenCommand) -> OpenCommand:
    """Return `mine` with what `stored` knows beyond it: no command goes back, and no cancel is taken back."""
    status = max(mine.status, stored.status, key=_WAY.index)
    cancel_requested = mine.cancel_requested or stored.cancel_requested
    if (status, cancel_requested) == (mine.status, mine.cancel_requested):
        return mine
    return msgspec.structs.replace(mine, status=status, cancel_requested=cancel_requested)


class OpenCommands:
    """Commands that have not ended, by agent and organisation. The database is the record; this saves asking it."""

    def __init__(self) -> None:
        self._commands: dict[str, OpenCommand] = {}
        self._of_agent: dict[str, dict[str, None]] = {}
        self._totals: dict[str, int] = {}
        self._dropped: set[str] | None = None

    def __iter__(self) -> Iterator[OpenCommand]:
        return iter(list(self._commands.values()))

    def get(self, command_id: str) -> OpenCommand | None:
        return self._commands.get(command_id)

    def put(self, command: OpenCommand) -> None:
        """Keep `command` as it is now; one that has ended is dropped."""
        if command.status in TERMINAL:
            self.drop(command.id)
            return
        if command.id not in self._commands:
            self._of_agent.setdefault(command.agent_id, {})[command.id] = None
            self._totals[command.organisation_id] = self.total(command.organisation_id) + 1
        self._commands[command.id] = command

    def learn(self, stored: OpenCommand) -> None:
        """Keep what the database says of a command, where that is more than is known."""
        mine = self._commands.get(stored.id)
        self.put(stored if mine is None else later_of(mine, stored))

    def drop(self, command_id: str) -> None:
        if self._dropped is not None:
            self._dropped.add(command_id)
        command = self._commands.pop(command_id, None)
        if command is None:
            return
        self._totals[command.organisation_id] -= 1
        of_agent = self._of_agent[command.agent_id]
        del of_agent[command_id]
        if not of_agent:
            del self._of_agent[command.agent_id]

    @contextmanager
    def noting_drops(self) -> Iterator[Set[str]]:
        """Yield the ids of those that are dropped within the block, for whoever reads of them beside it."""
        self._dropped = dropped = set[str]()
        try:
            yield dropped
        finally:
            self._dropped = None

    def of_agent(self, agent_id: str) -> list[OpenCommand]:
        """Return the agent's open commands, oldest first."""
        return [self._commands[command_id] for command_id in self._of_agent.get(agent_id, ())]

    def these(self, command_ids: Iterable[str]) -> list[OpenCommand]:
        """Return those of `command_ids` that are open, in that order."""
        return [command for command_id in command_ids if (command := self._commands.get(command_id)) is not None]

    def count_of_agent(self, agent_id: str) -> int:
        return len(self._of_agent.get(agent_id, ()))

    def total(self, organisation_id: str) -> int:
        return self._totals.get(organisation_id, 0)

    def ids(self) -> Set[str]:
        """Return the ids of all, oldest first, as they are now."""
        return dict.fromkeys(self._commands).keys()


class OrderWindow:
    """What is on its way to each agent, sent and not accepted: a burst that filled its outbox would cut it off."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._on_their_way: dict[str, dict[str, int]] = {}

    def admits(self, command: OpenCommand) -> bool:
        """Return whether `command` may be sent now. One order may always be."""
        flying = self._on_their_way.get(command.agent_id, {})
        return not flying or command.id in flying or sum(flying.values()) + frame_bytes_of(command) <= self._limit_bytes

    def enter(self, command: OpenCommand) -> bool:
        """Count `command` as on its way, if it may be sent now."""
        admitted = self.admits(command)
        if admitted:
            self._on_their_way.setdefault(command.agent_id, {})[command.id] = frame_bytes_of(command)
        return admitted

    def leave(self, agent_id: str, command_id: str) -> None:
        flying = self._on_their_way.get(agent_id)
        if flying is not None and flying.pop(command_id, None) is not None and not flying:
            del self._on_their_way[agent_id]

    def empty(self, agent_id: str) -> None:
        """Forget what was on its way: the agent has a new session, or is gone."""
        self._on_their_way.pop(agent_id, None)


def frame_bytes_of(command: OpenCommand) -> int:
    """Return about how much the frame of `command` takes on the wire."""
    return FRAME_BYTES_PER_PAYLOAD_BYTE * command.payload_bytes + 4 * command.script_bytes // 3 + FRAME_OVERHEAD_BYTES
