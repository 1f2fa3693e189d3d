"""What agents say of their commands, and what is sent to them: each change one transaction, then its event.

What an agent says of a command's way and output is shown when it comes and stored by the recorder a moment later; its
end is shown when it is stored, after all of its output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog

from hub_server.bus.port import Bus
from hub_server.clock import Clock, from_milliseconds, milliseconds
from hub_server.commands.census import Census
from hub_server.commands.engine import (
    Dispatched,
    Expired,
    Finished,
    Lost,
    NeverBegun,
    NeverSent,
    Signal,
    Started,
    advance,
)
from hub_server.commands.model import Command, OpenCommand, OpenCommands, OrderWindow, open_command_of
from hub_server.commands.recorder import Entry, Recorder, Step, Stored, is_end, step_of
from hub_server.commands.steps import Steps
from hub_server.commands.store import CommandStore
from hub_server.commands.streams import Streams
from hub_server.commands.views import frame_of, told_of
from hub_server.events import CommandCreated, CommandFinished, Deliver
from hub_server.storage.engine import Database, scope_of
from protocol.enumerations import CommandStatus, JobState
from protocol.frames import CommandCancel, CommandQuery, CommandResult, CommandResultAck, HubFrame, JobProgress
from protocol.limits import OUTBOX_MAX_BYTES

log = structlog.get_logger(component="commands")

UNACCEPTED_BYTES_MAX: Final = OUTBOX_MAX_BYTES // 2
DISPATCHED_AT_ONCE: Final = 64
"""Commands that share a transaction, and memory for their payloads and scripts."""
SWEPT_AT_ONCE: Final = 250
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
        self._steps = Steps(store)
        self._sessions = sessions
        self._delivered_monotonic: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._window = OrderWindow(UNACCEPTED_BYTES_MAX)
        self.opened: Final = OpenCommands()
        self._census = Census(database=database, clock=clock, steps=self._steps, opened=self.opened)
        self.recorder: Final = Recorder(database=database, clock=clock, store=store, stored=self._on_stored)
        self.streams: Final = Streams(
            database=database, bus=bus, store=store, recorder=self.recorder, opened=self.opened
        )

    async def load(self) -> None:
        for command in await self._census.load():
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
        self.streams.begin(command.id)
        identity = {"organisation_id": command.organisation_id, "agent_id": command.agent_id, "command_id": command.id}
        if command.status is CommandStatus.SENT:
            self._window.enter(open_command_of(command))
            self._delivered_monotonic[command.id] = self._clock.monotonic()
            self._deliver(command, frame_of(command))
        self._bus.publish(CommandCreated(**identity))
        if command.status is CommandStatus.SENT:
            self._bus.publish(told_of(command))

    def _deliver(self, command: Command | OpenCommand | Entry, frame: HubFrame) -> None:
        self._deliver_to(command.organisation_id, command.agent_id, frame)

    def _deliver_to(self, organisation_id: str, agent_id: str, frame: HubFrame) -> None:
        self._bus.publish(Deliver(organisation_id=organisation_id, agent_id=agent_id, frame=frame))

    def changed(self, before: Command, after: Command, *, is_shown: bool = False) -> None:
        """Say what a committed step changed. `is_shown`: people were told of its beginning before."""
        is_untold_end = after.has_ended and self.opened.get(after.id) is not None
        if after.has_ended:
            self._close(after.id)
        else:
            self._note(after)
        is_same = (after.status, after.cancel_requested) == (before.status, before.cancel_requested)
        if is_same and not is_untold_end:
            return
        log.info("command changed", command_id=after.id, agent_id=after.agent_id, status=after.status)
        identity = {"organisation_id": after.organisation_id, "agent_id": after.agent_id, "command_id": after.id}
        if not (is_shown and after.status is CommandStatus.EXECUTING):
            self._bus.publish(told_of(self.as_known(after)))
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

    def as_known(self, command: Command) -> Command:
        """Return `command`, as it was just read, as people were told that it stands."""
        for entry in self.recorder.of(command.id):
            if isinstance(entry, Step) and entry.is_shown:
                command = step_of(command, entry.signal)
        return command

    async def dispatch(self, commands: Iterable[OpenCommand], *, again: bool = False) -> None:
        """Mark those of connected agents as sent, DISPATCHED_AT_ONCE in a transaction, and send them.

        `again`: also those that were sent a moment ago, for the agent has a new session.
        """
        due = [
            command
            for command in commands
            if self._sessions.is_connected(command.agent_id)
            and (again or self._is_unanswered(command))
            and self._window.enter(command)
        ]
        for command in due:
            self._delivered_monotonic[command.id] = self._clock.monotonic()
        try:
            for first in range(0, len(due), DISPATCHED_AT_ONCE):
                await self._send(due[first : first + DISPATCHED_AT_ONCE])
        except BaseException:
            for command in due:
                self._delivered_monotonic.pop(command.id, None)
            raise

    async def _send(self, commands: Sequence[OpenCommand]) -> None:
        scope = scope_of(command.organisation_id for command in commands)
        steps = await self._database.transact(scope, partial(self._steps.mark_sent, commands, self._clock.now()))
        for command in commands:
            if command.id not in steps:
                self._close(command.id)
                continue
            before, after = steps[command.id]
            self.changed(before, after)
            if after.status is CommandStatus.SENT and not after.cancel_requested:
                self._deliver(after, frame_of(after))

    def deliver_cancel(self, command: OpenCommand | Command) -> None:
        self._delivered_monotonic[command.id] = self._clock.monotonic()
        self._deliver(command, CommandCancel(command_id=command.id))

    async def resume(self, agent_id: str) -> None:
        """Send a connected agent what it has not accepted yet, the cancels it has not obeyed, and what is asked."""
        self._window.empty(agent_id)
        commands = self.opened.of_agent(agent_id)
        for command in commands:
            self._remind(command)
        await self.dispatch((command for command in commands if self._awaits_acceptance(command)), again=True)

    async def sweep(self) -> None:
        """Heal what a crash or a lost frame left: end what expired, send again what was not accepted, ask.

        SWEPT_AT_ONCE commands at a time: others have their turn on the event loop in between.
        """
        await self._catch_up()
        ids = list(self.opened.ids())
        for first in range(0, len(ids), SWEPT_AT_ONCE):
            await self._tend(ids[first : first + SWEPT_AT_ONCE])
            await asyncio.sleep(0)

    async def _tend(self, command_ids: Iterable[str]) -> None:
        now = self._clock.now()
        for command in self.opened.these(command_ids):
            if command.status is CommandStatus.PENDING:
                if self._is_overdue(command, now):
                    await self.signal(command.organisation_id, command.agent_id, command.id, NeverSent(now))
            elif self._is_unanswered(command):
                self._remind(command)
        await self.dispatch(command for command in self.opened.these(command_ids) if self._awaits_acceptance(command))

    async def _catch_up(self) -> None:
        """Learn what is stored and was not told here: by another hub, or for somebody who did not wait for it."""
        findings = await self._census.take()
        for command_id, ended in findings.gone.items():
            if ended is not None:
                self.changed(ended, ended)
            else:
                self._close(command_id)
        for command in findings.open:
            self.opened.learn(command)

    def _remind(self, command: OpenCommand) -> None:
        """Say a cancel again; ask an agent that is here for what it has not named, and may have begun all the same.

        What its `hello` leaves out is not lost by that: whoever wrote it may not have heard from its own journal.
        """
        is_late = command.status is CommandStatus.SENT and self._is_overdue(command, self._clock.now())
        is_unnamed = command.status is CommandStatus.EXECUTING and command.id not in self._accepted
        if command.cancel_requested:
            self.deliver_cancel(command)
        elif is_late or (is_unnamed and self._sessions.is_connected(command.agent_id)):
            self._delivered_monotonic[command.id] = self._clock.monotonic()
            self._deliver(command, CommandQuery(command_id=command.id))

    # What an agent says.

    async def signal(self, organisation_id: str, agent_id: str, command_id: str, signal: Signal) -> Command | None:
        """Take `signal` to the command and return it as it stands; None when the agent has no such command."""
        await self.recorder.settle(command_id)
        work = partial(
            self._steps.take,
            organisation_id=organisation_id,
            agent_id=agent_id,
            command_id=command_id,
            signal=signal,
            now=self._clock.now(),
        )
        step = await self._database.transact(organisation_id, work)
        if step is None:
            return None
        before, after = step
        self.changed(before, after)
        return after

    async def accepted(self, organisation_id: str, agent_id: str, command_id: str) -> None:
        """Send it no more, and send what waited for it. An order that is sent again is known to the agent: no write."""
        self._note_accepted(organisation_id, agent_id, command_id)
        await self.dispatch(filter(self._awaits_acceptance, self.opened.of_agent(agent_id)))

    def started(self, organisation_id: str, agent_id: str, command_id: str, at: datetime) -> None:
        self._note_accepted(organisation_id, agent_id, command_id)
        opened = self.opened.get(command_id)
        is_open = opened is not None
        if opened is not None and not self._is_own(opened, organisation_id, agent_id):
            return
        identity = {"organisation_id": organisation_id, "agent_id": agent_id, "command_id": command_id}
        step = Step(**identity, signal=Started(at), is_own=is_open, is_shown=is_open)
        is_told = opened is not None and opened.status is CommandStatus.EXECUTING
        if not is_told and self.recorder.add(step) and opened is not None:
            executing = msgspec.structs.replace(opened, status=CommandStatus.EXECUTING)
            self.opened.put(executing)
            self._bus.publish(told_of(executing))

    def _is_own(self, opened: OpenCommand, organisation_id: str, agent_id: str) -> bool:
        is_own = (opened.organisation_id, opened.agent_id) == (organisation_id, agent_id)
        if not is_own:
            log.warning("not a command of this agent", agent_id=agent_id, command_id=opened.id)
        return is_own

    def _note_accepted(self, organisation_id: str, agent_id: str, command_id: str) -> None:
        command = self.opened.get(command_id)
        if command is not None and (command.organisation_id, command.agent_id) == (organisation_id, agent_id):
            self._accepted.add(command_id)
            self._window.leave(agent_id, command_id)

    def finished(self, organisation_id: str, agent_id: str, frame: CommandResult) -> None:
        """Store the first end of a command; each that comes is acknowledged once that is stored."""
        opened = self.opened.get(frame.command_id)
        if opened is not None and not self._is_own(opened, organisation_id, agent_id):
            self._deliver_to(organisation_id, agent_id, CommandResultAck(command_id=frame.command_id))
            return
        refusal = f"refused by the rule {frame.rule!r} of the agent" if frame.rule else ""
        signal = Finished(
            outcome=frame.status,
            at=self.moment(frame.finished_at),
            reason=frame.reason,
            exit_code=frame.exit_code,
            result=frame.result or refusal,
            started_at=None if frame.started_at is None else self.moment(frame.started_at),
            truncated=frame.truncated,
            output_bytes=self.streams.written_bytes(frame),
        )
        identity = {"organisation_id": organisation_id, "agent_id": agent_id, "command_id": frame.command_id}
        step = Step(**identity, signal=signal, is_own=opened is not None, is_shown=False)
        if not any(map(is_end, self.recorder.of(step.key))):  # else that end is about to be stored, and acknowledged
            self.recorder.add(step)

    async def unknown(self, organisation_id: str, agent_id: str, command_id: str) -> None:
        """The agent says that it does not know the command."""
        command = self.opened.get(command_id)
        if command is not None and self._is_own(command, organisation_id, agent_id):
            await self._reconcile_one(organisation_id, agent_id, command, JobState.UNKNOWN)

    async def reconcile(self, organisation_id: str, agent_id: str, jobs: Iterable[JobProgress]) -> list[str]:
        """Bring the hub's open commands in line with what an agent's `hello` names; return those that stay open.

        What it does not name is asked for (`resume`): only the agent's journal says that it does not know a command.
        """
        journal: Mapping[str, JobState] = {job.command_id: job.state for job in jobs}
        self.streams.forget(command.id for command in self.opened.of_agent(agent_id))
        for command in self.opened.of_agent(agent_id):
            if command.id in journal:
                await self._reconcile_one(organisation_id, agent_id, command, journal[command.id])
            else:
                self._accepted.discard(command.id)
        return [command.id for command in self.opened.of_agent(agent_id)]

    def moment(self, unix_ms: int | None) -> datetime:
        """Return an agent's time, never ahead of the hub's."""
        now = self._clock.now()
        return now if unix_ms is None else from_milliseconds(min(unix_ms, milliseconds(now)))

    def _on_stored(self, stored: Stored) -> None:
        for taken in stored.steps:
            self.changed(taken.before, taken.after, is_shown=taken.step.is_shown)
        self.streams.stored(stored)
        for entry in stored.entries if stored.is_acknowledged else ():
            if is_end(entry):
                self._deliver(entry, CommandResultAck(command_id=entry.command_id))

    async def _reconcile_one(self, organisation_id: str, agent_id: str, command: OpenCommand, state: JobState) -> None:
        now = self._clock.now()
        match state:
            case JobState.ACCEPTED | JobState.FINISHED:  # a finished one's result follows
                self._note_accepted(organisation_id, agent_id, command.id)
            case JobState.STARTED:
                self.started(organisation_id, agent_id, command.id, now)
            case JobState.UNKNOWN:
                self._accepted.discard(command.id)
                if command.status is CommandStatus.EXECUTING:
                    await self.signal(organisation_id, agent_id, command.id, Lost(now))
                elif command.status is CommandStatus.SENT and command.cancel_requested:
                    await self.signal(organisation_id, agent_id, command.id, NeverBegun(now))
                elif command.expires_at <= now:
                    await self.signal(organisation_id, agent_id, command.id, Expired(now))

    def _awaits_acceptance(self, command: OpenCommand) -> bool:
        if command.cancel_requested or command.id in self._accepted:
            return False
        return command.status in {CommandStatus.PENDING, CommandStatus.SENT} and command.expires_at > self._clock.now()

    def _is_unanswered(self, command: OpenCommand) -> bool:
        """Tell whether its agent was told of it long enough ago to be told again."""
        delivered = self._delivered_monotonic.get(command.id)
        return delivered is None or self._clock.monotonic() - delivered >= REDELIVER_SECONDS

    def _is_overdue(self, command: OpenCommand, now: datetime) -> bool:
        """Tell whether `command` may not begin any more, as far as the hub knows.

        One that was sent may have begun all the same: the agent is asked, once it is here.
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
        self.streams.forget([command_id])

    def _note(self, command: Command) -> None:
        known = self.opened.get(command.id)
        opened = open_command_of(command)
        if known is not None and not command.script:
            opened = msgspec.structs.replace(opened, script_bytes=known.script_bytes)
        self.opened.put(opened)
