"""The daemon's side of jobs: it carries frames to the executor and back, and starts one when there is work for it.

It verifies nothing and runs nothing; what it would have to import for that, it does not.
"""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import ClassVar, Final, NoReturn, assert_never

from agent_client.cancellation import check_cancelled
from agent_client.children import own_environment, own_module
from agent_client.clock import Clock
from agent_client.config import Config
from agent_client.errors import AgentError
from agent_client.execution.backlog import Backlog
from agent_client.execution.door import HAS_UNIX_SOCKETS, knock, socket_of
from agent_client.execution.places import ExecutorPlaces
from agent_client.execution.wire import (
    Ask,
    Begin,
    Carry,
    Channel,
    ChannelLost,
    End,
    JobFrame,
    JobReport,
    Logged,
    Restart,
    Say,
    Standing,
    ToDaemon,
    ToExecutor,
    to_daemon,
)
from agent_client.logs import Log, relay
from agent_client.paths import Places
from agent_client.store.secure import StoreError
from agent_client.turns import is_locked
from protocol.enumerations import CommandOutcome, CommandReason
from protocol.frames import Command, CommandOutputAck, CommandResult, CommandResultAck, JobProgress

START_SECONDS: Final = 20.0
KNOCK_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 20.0
ANSWERS_MAX: Final = 512
QUEUE_FRAMES: Final = 16
RETRY_SECONDS: Final = (1.0, 5.0, 30.0)
LOST_SECONDS: Final = (0.1, 1.0, 5.0, 30.0)
STEADY_SECONDS: Final = 10.0
_MODULE: Final = "agent_client.execution.executor"
_READY: Final = b"ready\n"
_SAID_MAX_BYTES: Final = 4096

_log = Log("execution")


class ExecutorUnreachable(AgentError):
    """There is no executor, and none could be started; the message says why."""

    code: ClassVar[str] = "executor_unreachable"


class ExecutorLink:
    """The way to the executor. `run()` keeps it while there is a use for it, and ends by cancellation.

    Frames that come while there is none wait for it. `restart` is called when a job wants the agent to begin anew.
    `running` and `unreported` are the executor's counts of jobs, as it said last.
    """

    def __init__(self, places: Places, config: Callable[[], Config], clock: Clock, restart: Callable[[], None]) -> None:
        self.running = 0
        self.unreported = 0
        self._places = places
        self._config = config
        self._clock = clock
        self._restart = restart
        self._wanted = asyncio.Event()
        self._channel: Channel[ToDaemon] | None = None
        self._waiting = Backlog()
        self._handed: set[str] = set()
        self._answers: deque[JobReport] = deque(maxlen=ANSWERS_MAX)
        self._session: Begin | None = None
        self._sessions = 0
        self._for_session: asyncio.Queue[JobReport] = asyncio.Queue(QUEUE_FRAMES)
        self._asked: dict[int, asyncio.Future[list[JobProgress]]] = {}
        self._questions = 0
        self._used_monotonic = clock.monotonic()
        if config().executor_service or has_open_jobs(places):
            self._wanted.set()

    async def run(self) -> NoReturn:
        failures = losses = 0
        while True:
            await self._wanted.wait()
            began_monotonic = self._clock.monotonic()
            try:
                await self._converse(await self._reached())
                failures = losses = 0
            except ExecutorUnreachable as error:
                _log.error("no executor for jobs", reason=str(error))
                self._give_up_for_now(str(error))
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            except ChannelLost as error:
                _log.warn("executor lost", reason=str(error))
                if self._clock.monotonic() - began_monotonic >= STEADY_SECONDS:
                    losses = 0
                await asyncio.sleep(LOST_SECONDS[min(losses, len(LOST_SECONDS) - 1)])
                losses += 1

    def carry(self, frame: JobFrame) -> None:
        """Pass on a frame of the hub. An order is kept until the executor has said something of it."""
        self._used_monotonic = self._clock.monotonic()
        is_repeated = isinstance(frame, CommandOutputAck | CommandResultAck)  # as often as what it acknowledges
        if isinstance(frame, Command) or (self._channel is None and not is_repeated):
            self._keep(frame)
        if self._channel is None:
            if not is_repeated:
                self._wanted.set()
            return
        if isinstance(frame, Command):
            self._handed.add(frame.command_id)
        self._say(Carry(frame))

    async def progress(self) -> list[JobProgress]:
        """Return what `hello` says of open jobs; none where the executor does not answer in time."""
        if self._channel is None and not self._wanted.is_set():
            return []
        self._questions += 1
        number = self._questions
        answer: asyncio.Future[list[JobProgress]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._say(Ask(number))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            _log.error("the executor does not say which jobs are open")
            return []
        finally:
            del self._asked[number]

    def begin(
        self, said: list[JobProgress], held_open: list[str], window: int, ack_timeout_seconds: float
    ) -> asyncio.Queue[JobReport]:
        """A session is up. Returns where the reports for it come out; hand it to `end`."""
        self._sessions += 1
        self._session = Begin(self._sessions, said, held_open, window, ack_timeout_seconds)
        self._for_session = asyncio.Queue(QUEUE_FRAMES)
        if held_open:
            self._wanted.set()
        self._say(self._session)
        return self._for_session

    def end(self, reports: asyncio.Queue[JobReport]) -> None:
        """The session is over. Nothing happens where another has begun since."""
        while not reports.empty():  # whoever waits to put one more comes through
            reports.get_nowait()
        if self._session is not None and reports is self._for_session:
            self._say(End(self._session.session))
            self._session = None

    def answers(self) -> Iterator[JobReport]:
        """Yield what was answered while there was no session."""
        while self._answers:
            yield self._answers.popleft()

    def _keep(self, frame: JobFrame) -> None:
        if not self._waiting.keep(frame):
            _log.error("too many frames wait for the executor; the hub sends orders again", command_id=frame.command_id)

    def _say(self, message: ToExecutor) -> None:
        """Nothing happens where there is no executor, or it does not listen: the reading end finds that out."""
        if self._channel is not None:
            with suppress(ChannelLost):
                self._channel.say(message)

    async def _converse(self, channel: Channel[ToDaemon]) -> None:
        """Returns when nothing was to be done for a while. Raises ChannelLost."""
        try:
            async with asyncio.timeout(KNOCK_SECONDS):
                await self._take(await channel.hear())  # one that is about to end does not say how things stand
            self._catch_up(channel)
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(self._hear(channel), name="executor-hearing")
                await self._until_unused()
                hearing.cancel()
        except TimeoutError:
            raise ChannelLost("it does not answer") from None
        except ExceptionGroup as group:
            check_cancelled(group)
            raise group.exceptions[0] from group
        finally:
            self._channel = None
            channel.close()
            if not self._has_use():
                self._wanted.clear()

    def _catch_up(self, channel: Channel[ToDaemon]) -> None:
        """Say what an executor that has just come does not know: the session, and what waits."""
        self._channel = channel
        if self._session is not None:
            self._say(self._session)
        for number in self._asked:
            self._say(Ask(number))
        for frame in self._waiting.frames():
            self._say(Carry(frame))
            if isinstance(frame, Command):
                self._handed.add(frame.command_id)
            else:
                self._waiting.drop(frame.command_id, type(frame))

    async def _hear(self, channel: Channel[ToDaemon]) -> NoReturn:
        while True:
            await self._take(await channel.hear())

    async def _take(self, message: ToDaemon) -> None:
        match message:
            case Standing():
                self.running, self.unreported = message.running, message.unreported
                asked = self._asked.get(message.number)
                if asked is not None and not asked.done():
                    asked.set_result(message.jobs)
            case Say(session=session, frame=frame):
                self._used_monotonic = self._clock.monotonic()
                self._waiting.drop(frame.command_id, Command)
                self._handed.discard(frame.command_id)
                await self._pass_on(session, frame)
            case Logged():
                relay(message.level, message.component, message.phrase, message.fields)
            case Restart():
                self._restart()
            case _:
                assert_never(message)

    async def _pass_on(self, session: int, report: JobReport) -> None:
        if self._session is not None and session in {0, self._session.session}:
            await self._for_session.put(report)
        elif session == 0:
            self._answers.append(report)

    async def _until_unused(self) -> None:
        while True:
            idle_seconds = self._config().executor_idle_seconds
            await asyncio.sleep(idle_seconds)
            is_quiet = self._clock.monotonic() - self._used_monotonic >= idle_seconds
            if is_quiet and not (self.unreported or self._waiting or self._asked):
                self._channel = None  # what comes from here on waits for the next one
                return

    def _has_use(self) -> bool:
        if self._waiting or self._asked or self.unreported:
            return True
        return not self._config().executor_service and has_open_jobs(self._places)

    def _give_up_for_now(self, message: str) -> None:
        """Answer orders that no executor has seen; the others may run yet, or have run.

        Whatever an executor has seen that is a service, or one that is there and does not answer, only it can tell.
        """
        is_told = not self._config().executor_service and not has_executor(self._places)
        for frame in self._waiting.frames():
            command_id = frame.command_id
            is_new = is_told and command_id not in self._handed and not may_know(self._places, command_id)
            if isinstance(frame, Command) and is_new:
                self._waiting.drop(command_id, Command)
                self._answers.append(
                    CommandResult(
                        command_id=command_id,
                        status=CommandOutcome.FAILED,
                        reason=CommandReason.START_FAILED,
                        result=f"it has not run: {message}"[:4096],
                    )
                )
        with suppress(asyncio.QueueFull):
            while self._session is not None and self._answers:
                self._for_session.put_nowait(self._answers[0])
                self._answers.popleft()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result([])

    async def _reached(self) -> Channel[ToDaemon]:
        """Return a channel to the executor that listens, or to one that is started now. Raises ExecutorUnreachable."""
        with suppress(OSError, StoreError, TimeoutError):
            return await self._knocked()
        if self._config().executor_service:
            raise ExecutorUnreachable(f"nothing listens at {socket_of(self._places)}; start the executor's service")
        await start_executor(self._places)
        try:
            return await self._knocked()
        except (OSError, StoreError, TimeoutError) as error:
            raise ExecutorUnreachable(f"the executor was started and is not reached: {error}") from error

    async def _knocked(self) -> Channel[ToDaemon]:
        async with asyncio.timeout(KNOCK_SECONDS):
            return Channel(*await knock(self._places), to_daemon)


async def start_executor(places: Places) -> None:
    """Start one that outlives this process, and wait until it listens. Raises ExecutorUnreachable."""
    arguments = [] if places == Places.of_system() else [str(places.state)]
    try:
        process = await subprocess.create_subprocess_exec(
            *own_module(_MODULE, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=own_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise ExecutorUnreachable(f"no process could be started: {error}") from error
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            said = await process.stdout.readline()
            if HAS_UNIX_SOCKETS:
                await process.wait()
    except TimeoutError:
        raise ExecutorUnreachable(f"the executor did not start within {START_SECONDS:g} s") from None
    if said != _READY:
        reason = said[:_SAID_MAX_BYTES].decode(errors="replace").strip()
        raise ExecutorUnreachable(reason or "the executor ended without a word")


def has_open_jobs(places: Places) -> bool:
    """Tell whether the journal holds a job whose result the hub does not; where it cannot be read, it may."""
    return _has_job(places, "acknowledged = 0")


def has_executor(places: Places) -> bool:
    """Tell whether an executor of this folder lives, though it may not answer; where that cannot be told, it may."""
    try:
        with ExecutorPlaces.beside(places).lock.open("r+") as file:
            return not is_locked(file)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def may_know(places: Places, command_id: str) -> bool:
    """Tell whether an executor may have seen this order: its journal says so, or cannot be read."""
    return _has_job(places, "id = ?", command_id)


def _has_job(places: Places, which: str, *parameters: str) -> bool:
    journal = ExecutorPlaces.beside(places).journal
    path = journal if journal.exists() else places.database  # an earlier version kept jobs in the spool
    if not path.is_file():
        return False
    query = f"SELECT 1 FROM jobs WHERE {which} LIMIT 1"  # noqa: S608  the callers' constants
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            return connection.execute(query, parameters).fetchone() is not None
    except sqlite3.Error:
        return path == journal
