"""What agents say of their commands, and what is sent to them: each change one transaction, then its event."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.bus.port import Bus
from hub_server.clock import Clock, from_milliseconds, milliseconds
from hub_server.commands.engine import (
    Dispatched,
    Expired,
    Finished,
    IllegalStep,
    Kept,
    Lost,
    NeverBegun,
    Signal,
    Started,
    advance,
    kept_of,
)
from hub_server.commands.model import Command, OpenCommand, OpenCommands, OrderWindow, open_command_of
from hub_server.commands.store import CommandStore
from hub_server.events import CommandCreated, CommandFinished, CommandOutputStored, CommandStatusChanged, Deliver
from hub_server.storage.engine import EVERY_ORGANISATION, Database, scope_of
from protocol.codec import BadFrame
from protocol.enumerations import CommandStatus, JobState, OutputStream, TextEncoding
from protocol.frames import Command as CommandFrame
from protocol.frames import CommandCancel, CommandOutput, CommandOutputAck, CommandResult, JobProgress
from protocol.limits import OUTBOX_MAX_BYTES, OUTPUT_CREDITS, OUTPUT_STORED_MAX_BYTES

log = structlog.get_logger(component="commands")

UNACCEPTED_BYTES_MAX: Final = OUTBOX_MAX_BYTES // 2
REDELIVER_SECONDS: Final = 15.0
EXPIRY_GRACE_SECONDS: Final = 15.0
"""An order that was sent may be accepted in its last second: the hub waits this much longer before it says expired."""


class Sessions(Protocol):
    """Which agents are connected."""

    def is_connected(self, agent_id: str) -> bool: ...


class Ledger:
    """The open commands of all agents. `opened` and `delivered` only save questions to the database and repetitions."""

    def __init__(self, *, database: Database, bus: Bus, clock: Clock, store: CommandStore, sessions: Sessions) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._sessions = sessions
        self._delivered_monotonic: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._held_bytes: dict[str, dict[OutputStream, int]] = {}
        self._window = OrderWindow(UNACCEPTED_BYTES_MAX)
        self.opened: Final = OpenCommands()

    async def load(self) -> None:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            for command in await self._store.load_open(connection):
                self.opened.put(command)

    def forget(self, agent_id: str) -> None:
        for command in self.opened.of_agent(agent_id):
            self._close(command.id)

    # What people and the dispatcher cause.

    def on_its_way(self, command: Command) -> Command:
        """Return a new command as it is stored: already as sent when its agent is here, which saves a commit."""
        if not (self._sessions.is_connected(command.agent_id) and self._window.admits(open_command_of(command))):
            return command
        return advance(command, Dispatched(self._clock.now()))

    def created(self, command: Command) -> None:
        """Note a command that was committed a moment ago, and send it when it was stored as sent."""
        self.opened.put(open_command_of(command))
        self._held_bytes[command.id] = dict.fromkeys(OutputStream, 0)
        identity = {"organisation_id": command.organisation_id, "agent_id": command.agent_id, "command_id": command.id}
        if command.status is CommandStatus.SENT:
            self._window.enter(open_command_of(command))
            self._delivered_monotonic[command.id] = self._clock.monotonic()
            self._deliver(command)
        self._bus.publish(CommandCreated(**identity))
        if command.status is CommandStatus.SENT:
            self._bus.publish(CommandStatusChanged(**identity, status=command.status))

    def _deliver(self, command: Command) -> None:
        self._bus.publish(
            Deliver(organisation_id=command.organisation_id, agent_id=command.agent_id, frame=frame_of(command))
        )

    def changed(self, before: Command, after: Command) -> None:
        """Say what a committed step changed."""
        is_untold_end = after.has_ended and self.opened.get(after.id) is not None
        if after.has_ended:
            self._close(after.id)
        else:
            self.opened.put(open_command_of(after))
        if after.status is before.status and not is_untold_end:
            return
        log.info("command changed", command_id=after.id, agent_id=after.agent_id, status=after.status)
        identity = {"organisation_id": after.organisation_id, "agent_id": after.agent_id, "command_id": after.id}
        self._bus.publish(CommandStatusChanged(**identity, status=after.status))
        if after.has_ended:
            self._bus.publish(
                CommandFinished(
                    **identity,
                    status=after.status,
                    exit_code=after.exit_code,
                    reason=after.reason,
                    result=after.result,
                    finished_at=after.finished_at,
                )
            )

    async def dispatch(self, commands: Iterable[OpenCommand], *, again: bool = False) -> None:
        """Mark those of connected agents as sent, in one transaction, and send them.

        `again`: also those that were sent a moment ago, for the agent has a new session.
        """
        due = [
            command
            for command in commands
            if self._sessions.is_connected(command.agent_id)
            and (again or self._is_unanswered(command))
            and self._window.enter(command)
        ]
        if not due:
            return
        for command in due:
            self._delivered_monotonic[command.id] = self._clock.monotonic()
        try:
            steps = await self._mark_sent(due)
        except BaseException:
            for command in due:
                self._delivered_monotonic.pop(command.id, None)
            raise
        for before, after in steps:
            self.changed(before, after)
            if after.status is CommandStatus.SENT and not after.cancel_requested:
                self._deliver(after)

    def deliver_cancel(self, command: OpenCommand | Command) -> None:
        self._delivered_monotonic[command.id] = self._clock.monotonic()
        self._bus.publish(
            Deliver(
                organisation_id=command.organisation_id,
                agent_id=command.agent_id,
                frame=CommandCancel(command_id=command.id),
            )
        )

    async def resume(self, agent_id: str) -> None:
        """Send a connected agent what it has not accepted yet, and the cancels it has not obeyed."""
        self._window.empty(agent_id)
        commands = self.opened.of_agent(agent_id)
        for command in commands:
            if command.cancel_requested:
                self.deliver_cancel(command)
        await self.dispatch((command for command in commands if self._awaits_acceptance(command)), again=True)

    async def sweep(self) -> None:
        """Heal what a crash or a lost frame left: end what expired, send again what was not accepted."""
        known = self.opened.ids()
        async with self._database.read(EVERY_ORGANISATION) as connection:
            stored = await self._store.load_open(connection)
        for command_id in known.difference(command.id for command in stored):
            self._close(command_id)
        for command in stored:
            if command.id not in known:
                self.opened.put(command)
        now = self._clock.now()
        overdue = [command for command in stored if self._is_overdue(command, now)]
        for command in overdue:
            signal = NeverBegun(now) if command.cancel_requested else Expired(now)
            await self.signal(command.organisation_id, command.agent_id, command.id, signal)
        for command in self.opened:
            if command.cancel_requested and self._is_unanswered(command):
                self.deliver_cancel(command)
        await self.dispatch(command for command in self.opened if self._awaits_acceptance(command))

    # What an agent says.

    async def signal(self, organisation_id: str, agent_id: str, command_id: str, signal: Signal) -> Command | None:
        """Take `signal` to the command and return it as it stands; None when the agent has no such command."""
        async with self._database.write(organisation_id) as connection:
            step = await self._step(connection, organisation_id, agent_id, command_id, signal)
        if step is None:
            return None
        before, after = step
        self.changed(before, after)
        return after

    async def accepted(self, organisation_id: str, agent_id: str, command_id: str) -> None:
        """Send it no more, and send what waited for it. An order that is sent again is known to the agent: no write."""
        self._note_accepted(organisation_id, agent_id, command_id)
        await self.dispatch(filter(self._awaits_acceptance, self.opened.of_agent(agent_id)))

    async def started(self, organisation_id: str, agent_id: str, command_id: str, at: datetime) -> None:
        self._note_accepted(organisation_id, agent_id, command_id)
        await self.signal(organisation_id, agent_id, command_id, Started(at))

    def _note_accepted(self, organisation_id: str, agent_id: str, command_id: str) -> None:
        command = self.opened.get(command_id)
        if command is not None and (command.organisation_id, command.agent_id) == (organisation_id, agent_id):
            self._accepted.add(command_id)
            self._window.leave(agent_id, command_id)

    async def finished(self, organisation_id: str, agent_id: str, frame: CommandResult) -> None:
        refusal = f"refused by the rule {frame.rule!r} of the agent" if frame.rule else ""
        signal = Finished(
            outcome=frame.status,
            at=self.moment(frame.finished_at),
            reason=frame.reason,
            exit_code=frame.exit_code,
            result=frame.result or refusal,
            started_at=None if frame.started_at is None else self.moment(frame.started_at),
            truncated=frame.truncated,
        )
        await self.signal(organisation_id, agent_id, frame.command_id, signal)

    async def unknown(self, organisation_id: str, agent_id: str, command_id: str) -> None:
        """The agent says that it does not know the command."""
        command = self.opened.get(command_id)
        if command is not None:
            await self._reconcile_one(organisation_id, agent_id, command, JobState.UNKNOWN)

    async def reconcile(self, organisation_id: str, agent_id: str, jobs: Iterable[JobProgress]) -> list[str]:
        """Bring the hub's open commands in line with the agent's journal; return those that stay open."""
        journal: Mapping[str, JobState] = {job.command_id: job.state for job in jobs}
        for command in self.opened.of_agent(agent_id):
            await self._reconcile_one(organisation_id, agent_id, command, journal.get(command.id, JobState.UNKNOWN))
        return [command.id for command in self.opened.of_agent(agent_id)]

    async def chunk(self, organisation_id: str, agent_id: str, frame: CommandOutput) -> CommandOutputAck:
        """Store exactly the bytes that are not stored yet. Raises BadFrame for data that are not base64."""
        data = _bytes_of(frame)
        held_bytes = await self._held(organisation_id, agent_id, frame.command_id)
        if held_bytes is None:
            log.warning("output of a command that is not this agent's", agent_id=agent_id, command_id=frame.command_id)
            return _output_ack(frame, frame.offset + len(data))
        held = held_bytes[frame.stream]
        kept = kept_of(data, offset=frame.offset, held_bytes=held, limit_bytes=OUTPUT_STORED_MAX_BYTES)
        if (kept.data or kept.truncated) and not await self._store_output(organisation_id, frame, held, kept):
            self._held_bytes.pop(frame.command_id, None)
            return _output_ack(frame, held)  # somebody else stored these bytes: the agent asks again
        if kept.data:
            held_bytes[frame.stream] = held + len(kept.data)
            self._bus.publish(
                CommandOutputStored(
                    organisation_id=organisation_id,
                    agent_id=agent_id,
                    command_id=frame.command_id,
                    stream=frame.stream,
                    offset=held,
                    data=kept.data,
                )
            )
        return _output_ack(frame, kept.offset)

    def moment(self, unix_ms: int | None) -> datetime:
        """Return an agent's time, never ahead of the hub's."""
        now = self._clock.now()
        return now if unix_ms is None else from_milliseconds(min(unix_ms, milliseconds(now)))

    async def _mark_sent(self, commands: Sequence[OpenCommand]) -> list[tuple[Command, Command]]:
        steps: list[tuple[Command, Command]] = []
        async with self._database.write(scope_of(command.organisation_id for command in commands)) as connection:
            for command in commands:
                step = await self._step(
                    connection, command.organisation_id, command.agent_id, command.id, Dispatched(self._clock.now())
                )
                if step is not None:
                    steps.append(step)
                else:
                    self._close(command.id)
        return steps

    async def _step(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, command_id: str, signal: Signal
    ) -> tuple[Command, Command] | None:
        before = await self._store.find(connection, organisation_id, command_id, to_change=True)
        if before is None or before.agent_id != agent_id:
            log.warning("not a command of this agent", agent_id=agent_id, command_id=command_id)
            return None
        try:
            after = advance(before, signal)
        except IllegalStep as illegal:
            log.warning("signal ignored", agent_id=agent_id, command_id=command_id, error=str(illegal))
            return before, before
        if after is not before:
            await self._store.save(connection, after)
        return before, after

    async def _reconcile_one(self, organisation_id: str, agent_id: str, command: OpenCommand, state: JobState) -> None:
        now = self._clock.now()
        match state:
            case JobState.ACCEPTED | JobState.FINISHED:  # a finished one's result follows
                self._note_accepted(organisation_id, agent_id, command.id)
            case JobState.STARTED:
                await self.started(organisation_id, agent_id, command.id, now)
            case JobState.UNKNOWN:
                self._accepted.discard(command.id)
                if command.status is CommandStatus.EXECUTING:
                    await self.signal(organisation_id, agent_id, command.id, Lost(now))
                elif command.status is CommandStatus.SENT and command.cancel_requested:
                    await self.signal(organisation_id, agent_id, command.id, NeverBegun(now))
                elif command.expires_at <= now:
                    await self.signal(organisation_id, agent_id, command.id, Expired(now))

    async def _held(self, organisation_id: str, agent_id: str, command_id: str) -> dict[OutputStream, int] | None:
        """Return how many bytes of each stream are stored; None when the command is not this agent's."""
        opened = self.opened.get(command_id)
        held_bytes = self._held_bytes.get(command_id)
        if opened is not None and opened.agent_id == agent_id and held_bytes is not None:
            return held_bytes
        async with self._database.read(organisation_id) as connection:
            command = await self._store.find(connection, organisation_id, command_id)
            if command is None or command.agent_id != agent_id:
                return None
            sizes = await self._store.output_sizes(connection, organisation_id, [command_id])
        if not command.has_ended:
            self._held_bytes[command_id] = sizes[command_id]
        return sizes[command_id]

    async def _store_output(self, organisation_id: str, frame: CommandOutput, held: int, kept: Kept) -> bool:
        async with self._database.write(organisation_id) as connection:
            if kept.truncated:
                await self._store.mark_truncated(connection, organisation_id, frame.command_id)
            return not kept.data or await self._store.add_output(
                connection, organisation_id, frame.command_id, frame.stream, offset=held, data=kept.data
            )

    def _awaits_acceptance(self, command: OpenCommand) -> bool:
        if command.cancel_requested or command.id in self._accepted:
            return False
        return command.status in {CommandStatus.PENDING, CommandStatus.SENT} and command.expires_at > self._clock.now()

    def _is_unanswered(self, command: OpenCommand) -> bool:
        """Tell whether its agent was told of it long enough ago to be told again."""
        delivered = self._delivered_monotonic.get(command.id)
        return delivered is None or self._clock.monotonic() - delivered >= REDELIVER_SECONDS

    def _is_overdue(self, command: OpenCommand, now: datetime) -> bool:
        """Tell whether `command` has surely not begun and may not begin any more.

        One that was sent to an agent which is away may have run there: its end is known when the agent is back.
        """
        if command.status is CommandStatus.PENDING:
            return command.expires_at <= now
        if command.status is not CommandStatus.SENT or command.id in self._accepted:
            return False
        late_seconds = (now - command.expires_at).total_seconds()
        return late_seconds >= EXPIRY_GRACE_SECONDS and self._sessions.is_connected(command.agent_id)

    def _close(self, command_id: str) -> None:
        if (command := self.opened.get(command_id)) is not None:
            self._window.leave(command.agent_id, command_id)
        self.opened.drop(command_id)
        self._delivered_monotonic.pop(command_id, None)
        self._accepted.discard(command_id)
        self._held_bytes.pop(command_id, None)


def frame_of(command: Command) -> CommandFrame:
    """Return the frame for the agent, with the payload as it is stored: the agent refuses one that was altered."""
    return CommandFrame(
        command_id=command.id,
        command_type=command.command_type,
        command_data=command.command_data,
        payload=base64.b64encode(command.payload).decode(),
        signatures=command.signatures,
        expires_at=milliseconds(command.expires_at),
    )


def _bytes_of(frame: CommandOutput) -> bytes:
    if frame.encoding is TextEncoding.UTF8:
        return frame.data.encode()
    try:
        return base64.b64decode(frame.data, validate=True)
    except binascii.Error as error:
        raise BadFrame("not base64", "$.data") from error


def _output_ack(frame: CommandOutput, offset: int) -> CommandOutputAck:
    return CommandOutputAck(command_id=frame.command_id, stream=frame.stream, offset=offset, credits=OUTPUT_CREDITS)
