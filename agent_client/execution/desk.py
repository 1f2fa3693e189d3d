"""The executor's side of one conversation with the daemon: what it is told, what it answers, what it reports."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NoReturn, assert_never

from agent_client.cancellation import check_cancelled
from agent_client.clock import Clock
from agent_client.execution.jobs import Jobs
from agent_client.execution.reporting import Reporter
from agent_client.execution.wire import (
    Ask,
    Begin,
    Carry,
    Channel,
    ChannelLost,
    End,
    JobFrame,
    JobReport,
    NotUnderstood,
    Say,
    Standing,
    ToExecutor,
)
from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from protocol.frames import Command, CommandCancel, CommandOutputAck, CommandQuery, CommandResultAck

_log = Log("execution")


class Desk:
    """Lives as long as the daemon's connection. `run()` ends with ChannelLost."""

    def __init__(self, jobs: Jobs, channel: Channel[ToExecutor], clock: Clock) -> None:
        self._jobs = jobs
        self._channel = channel
        self._clock = clock
        self._session = 0
        self._reporter: Reporter | None = None
        self._reporting: asyncio.Task[None] | None = None

    async def run(self) -> NoReturn:
        self.tell_standing()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._handle(await self._channel.hear(), group)
        except ExceptionGroup as group:
            check_cancelled(group)
            if unread := group.subgroup(NotUnderstood):
                _log.warn("the daemon is not listened to", reason=str(unread.exceptions[0]))
            if faults := group.split(ChannelLost)[1]:
                _log.error("conversation with the daemon failed", exception=faults)
            raise ChannelLost("the daemon is gone") from group

    def tell_standing(self, number: int = 0) -> None:
        """Raises ChannelLost."""
        jobs = self._jobs
        progress = jobs.progress() if number else []
        self._channel.say(Standing(number, jobs.running(), len(jobs.open), progress))

    async def _handle(self, message: ToExecutor, group: asyncio.TaskGroup) -> None:
        match message:
            case Begin():
                await self._end_session()
                self._begin_session(message, group)
            case End(session=session):
                if session == self._session:
                    await self._end_session()
            case Carry(frame=frame):
                try:
                    self._take(frame)
                except DatabaseError as error:  # nothing is lost: the hub says it again
                    _log.error("the journal does not answer", command_id=frame.command_id, reason=str(error))
            case Ask(number=number):
                self.tell_standing(number)
            case _:
                assert_never(message)

    def _begin_session(self, begin: Begin, group: asyncio.TaskGroup) -> None:
        async def send(report: JobReport) -> None:
            await self._channel.tell(Say(begin.session, report))

        self._session = begin.session
        self._jobs.held_open(begin.held_open)
        self._reporter = Reporter(
            self._jobs,
            send,
            self._clock,
            said_in_hello=begin.said,
            window=begin.window,
            ack_timeout_seconds=begin.ack_timeout_seconds,
        )
        self._reporting = group.create_task(self._reporter.run(), name="reporter")

    async def _end_session(self) -> None:
        reporting, self._reporting, self._reporter = self._reporting, None, None
        if reporting is not None:
            reporting.cancel()
            await asyncio.wait([reporting])

    def _take(self, frame: JobFrame) -> None:
        match frame:
            case Command():
                if refusal := self._jobs.receive(frame):
                    self._channel.say(Say(0, refusal))
            case CommandOutputAck():
                if self._reporter is not None:
                    self._reporter.output_acknowledged(frame)
            case CommandResultAck():
                self._jobs.settled(frame.command_id)
            case CommandCancel():
                self._jobs.cancel(frame.command_id)
                if frame.command_id not in self._jobs.open:
                    self._channel.say(Say(0, self._jobs.state_of(frame.command_id)))
            case CommandQuery():
                self._channel.say(Say(0, self._jobs.state_of(frame.command_id)))
            case _:
                assert_never(frame)


def told(desk: Desk | None) -> None:
    """Tell the daemon, if there is one, how things stand now."""
    if desk is not None:
        with suppress(ChannelLost):
            desk.tell_standing()
