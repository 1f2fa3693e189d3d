"""The executor: the process in which jobs run. It verifies every order itself, and outlives the daemon.

python -m agent_client.execution.executor [DATA-DIR]              started by the daemon when there are jobs
jtnt-agent executor [--data-dir DIR] [--folder DIR]               a service of its own, for a daemon without rights
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from agent_client.children import watch_children_without_threads
from agent_client.clock import SystemClock
from agent_client.errors import AgentError
from agent_client.execution.actions import Actions
from agent_client.execution.desk import Desk, told
from agent_client.execution.door import Door, Streams, knock
from agent_client.execution.jobs import JobBounds, Jobs
from agent_client.execution.journal import Journal
from agent_client.execution.kin import Kin
from agent_client.execution.marks import Marks, inherit
from agent_client.execution.places import ExecutorPlaces
from agent_client.execution.scripts import Scripts
from agent_client.execution.terms import TermsOnDisk
from agent_client.execution.wire import Channel, ChannelLost, Logged, Restart, ToExecutor, to_executor
from agent_client.logs import Log, fields_of, log_to
from agent_client.paths import Places
from agent_client.spool.database import Database, DatabaseError
from agent_client.store.secure import FILE_MODE, SecureStore, StoreError
from agent_client.turns import is_locked

READY: Final = b"ready\n"
OWN_FOLDER: Final = Path("/var/lib/jtnt-executor")
HOUSEKEEPING_SECONDS: Final = 1800.0
KNOCK_SECONDS: Final = 5.0
LOCK_WAIT_SECONDS: Final = 10.0
_LOCK_ROUND_SECONDS: Final = 0.05
_LINES_KEPT: Final = 256

_log = Log("execution")


class Unstartable(AgentError):
    code: ClassVar[str] = "executor_unstartable"


class LineRelay(logging.Handler):
    """Hands log records to the daemon, which writes them; keeps the newest while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self._channel: Channel[ToExecutor] | None = None
        self._kept: deque[Logged] = deque(maxlen=_LINES_KEPT)
        self._formatter = logging.Formatter()

    def attach(self, channel: Channel[ToExecutor] | None) -> None:
        self._channel = channel
        while self._channel is not None and self._kept:
            self._pass_on(self._kept.popleft())

    def emit(self, record: logging.LogRecord) -> None:
        fields = fields_of(record)
        if record.exc_info:
            fields["exception"] = self._formatter.formatException(record.exc_info)
        self._pass_on(Logged(record.levelno, record.name.removeprefix("agent."), record.getMessage(), fields))

    def _pass_on(self, line: Logged) -> None:
        if self._channel is None:
            self._kept.append(line)
            return
        with suppress(ChannelLost):
            self._channel.say(line)


class Executor:
    """Serves one daemon at a time; a newer one takes the place of the one before. `run()` returns when idle."""

    def __init__(self, places: ExecutorPlaces, relay: LineRelay | None) -> None:
        """Take up the journal. Raises AgentError or OSError."""
        self._relay = relay
        self._clock = SystemClock()
        terms = TermsOnDisk(places)
        settings = terms.settings
        self._idle_seconds = settings.executor_idle_seconds
        self._database = Database(places.journal)
        if not places.is_apart:
            inherit(self._database, places.agent.database)
        self._journal = Journal(self._database, self._clock)
        self._marks = Marks(self._database, self._journal, SecureStore(places.marks), settings.agent_id)
        self._marks.open()
        self._kin = Kin()
        actions = Actions(
            Scripts(places.folder / "scripts"),
            settings.kill_grace_seconds,
            self._kin,
            self._restart_daemon,
            places.daemons,
        )
        bounds = JobBounds(settings.running_jobs_max, settings.kill_grace_seconds)
        self._jobs = Jobs(self._journal, terms, self._clock, places.output, bounds, actions=actions)
        self._jobs.notify = self._changed
        self._news = asyncio.Event()
        self._is_stopping = False
        self._desk: Desk | None = None
        self._channel: Channel[ToExecutor] | None = None
        self._door = Door(places)

    async def run(self) -> None:
        """Work until there was nothing to do for a while, or a signal: then what runs is killed and written down."""
        self._kin.adopt()
        self._listen_to_signals()
        server = await asyncio.start_server(self._serve, sock=self._door.listener)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._jobs.run(), name="jobs"),
                    group.create_task(self._keep_house(), name="housekeeping"),
                ]
                await self._until_idle()
                for task in tasks:
                    task.cancel()
        finally:
            server.close()  # before the door, whose socket it lets go of
            self._door.close()
            if self._channel is not None:
                self._channel.close()
            self._marks.note()
            self._jobs.close()
            self._database.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, to_executor)
        try:
            async with asyncio.timeout(KNOCK_SECONDS):
                is_admitted = await self._door.admits(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            is_admitted = False
        if not is_admitted:
            _log.warn("somebody else than the daemon's user was turned away")
            channel.close()
            return
        if self._channel is not None:
            self._channel.close()
        self._channel = channel
        self._desk = desk = Desk(self._jobs, channel, self._clock)
        if self._relay is not None:
            self._relay.attach(channel)
        self._news.set()
        try:
            await desk.run()
        except ChannelLost as lost:
            _log.debug("daemon gone", reason=str(lost))
        finally:
            if self._channel is channel:
                self._channel = self._desk = None
                if self._relay is not None:
                    self._relay.attach(None)
            self._news.set()
            channel.close()

    def _changed(self) -> None:
        told(self._desk)
        self._news.set()

    def _restart_daemon(self) -> None:
        if self._channel is not None:
            with suppress(ChannelLost):
                self._channel.say(Restart())

    async def _until_idle(self) -> None:
        """Return when there was neither a daemon nor a job that is not finished for a while, or a signal came."""
        while not self._is_stopping:
            self._news.clear()
            is_needed = self._desk is not None or self._jobs.unfinished()
            try:
                async with asyncio.timeout(None if is_needed else self._idle_seconds):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _keep_house(self) -> NoReturn:
        while True:
            try:
                self._journal.prune()
            except DatabaseError as error:
                _log.error("the journal does not take it", reason=str(error))
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            self._marks.note()

    def _listen_to_signals(self) -> None:
        if sys.platform == "win32":
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGCHLD, self._kin.reap)

    def _stop(self) -> None:
        self._is_stopping = True
        self._news.set()


async def work(places: ExecutorPlaces, relay: LineRelay | None) -> None:
    """Be the executor of these places, unless another one is. Raises AgentError or OSError."""
    async with _only_one(places) as is_this:
        if not is_this:
            _say_ready()
            return
        executor = Executor(places, relay)
        if relay is not None:
            _say_ready()
        await executor.run()


@asynccontextmanager
async def _only_one(places: ExecutorPlaces) -> AsyncIterator[bool]:
    """Hold the lock of these places; yield whether it is ours. One that is about to end is waited for."""
    SecureStore(places.folder).prepare()
    with os.fdopen(os.open(places.lock, os.O_RDWR | os.O_CREAT, FILE_MODE), "r+") as file:
        for _ in range(int(LOCK_WAIT_SECONDS / _LOCK_ROUND_SECONDS)):
            if is_locked(file):
                file.seek(0)
                file.truncate()
                file.write(str(os.getpid()))
                file.flush()
                yield True
                return
            if await _answers(places.agent):
                yield False
                return
            await asyncio.sleep(_LOCK_ROUND_SECONDS)
    raise Unstartable(f"another executor holds {places.lock} and does not answer")


async def _answers(agent: Places) -> bool:
    try:
        streams: Streams = await knock(agent)
    except (OSError, StoreError):
        return False
    streams[1].close()
    return True


def _say_ready() -> None:
    """Tell the daemon that waits for it, and let go of what it reads."""
    os.write(1, READY)
    _silence()


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def main(arguments: Sequence[str] | None = None) -> int:
    """Started by the daemon: leave it, so that its end is not ours. Says READY, or why not, on standard output."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.platform != "win32" and os.fork():
        return 0
    relay = LineRelay()
    logging.getLogger().handlers[:] = [relay]
    logging.getLogger("agent").setLevel(logging.INFO)
    return _run(ExecutorPlaces.beside(Places.chosen(given[0] if given else None)), relay)


def serve(data_dir: str | None, folder: str | None) -> int:
    """Be a service of its own, with the log on standard output. Returns the exit code."""
    agent = Places.chosen(data_dir)
    log_to()
    return _run(ExecutorPlaces(Path(folder).absolute() if folder else OWN_FOLDER, agent), None)


def _run(places: ExecutorPlaces, relay: LineRelay | None) -> int:
    watch_children_without_threads()
    try:
        asyncio.run(work(places, relay))
    except (AgentError, OSError) as error:
        _log.fatal(str(error))
        if relay is not None:
            os.write(1, f"{error}\n".encode())
        return error.exit_code if isinstance(error, AgentError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
