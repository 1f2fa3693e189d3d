"""One process by argv, without a shell: its output captured, its time bounded, all that came of it killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from agent_client.children import kill_group
from agent_client.execution.account import Account
from agent_client.execution.census import Census, Resident
from agent_client.execution.kin import Kin
from agent_client.logs import Log
from protocol.enumerations import CommandOutcome, CommandReason, OutputStream

_INHERITED: Final = (
    ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL")
    if sys.platform != "win32"
    else (
        "PATH",
        "PATHEXT",
        "SYSTEMROOT",
        "SYSTEMDRIVE",
        "COMSPEC",
        "TEMP",
        "TMP",
        "PROGRAMDATA",
        "PROGRAMFILES",
        "WINDIR",
    )
)
_STREAMS: Final = {1: OutputStream.STDOUT, 2: OutputStream.STDERR}
# A child left in the background may hold the pipes open; its output after this is not the job's.
_DRAIN_SECONDS: Final = 2.0
_KILL_SECONDS: Final = 5.0
_EMPTY_LOOKS: Final = 3
"""A process that makes another all the time can slip past a look: the new one has a number that was passed before."""
_KILL_ROUND_SECONDS: Final = 0.01
_LEAVING_SECONDS: Final = 0.1
"""What is still there so long after the first process does not just end a little later."""
_NAMED_MAX: Final = 8

Sink = Callable[[OutputStream, bytes], None]

_log = Log("execution")


class Ending(Struct, frozen=True):
    """How a process ended; `exit_code` is negative for a signal, None when none was made or it was killed by us.

    `rule`: by which none may be made.
    """

    outcome: CommandOutcome
    reason: CommandReason | None
    exit_code: int | None
    message: str
    rule: str = ""


class Valve:
    """Lets the reading of a process's output pause, so that the process is slowed. Mutable; open until turned."""

    def __init__(self) -> None:
        self.is_closed = False
        self._pipes: list[asyncio.ReadTransport] = []
        self._is_released = False

    def fit(self, pipes: Iterable[asyncio.BaseTransport | None]) -> None:
        """Turn these pipes from now on."""
        self._pipes = [pipe for pipe in pipes if isinstance(pipe, asyncio.ReadTransport)]
        self.turn(is_closed=self.is_closed)

    def turn(self, *, is_closed: bool) -> None:
        self.is_closed = is_closed and not self._is_released
        for pipe in self._pipes:
            if self.is_closed:
                pipe.pause_reading()
            elif not pipe.is_closing():
                pipe.resume_reading()

    def release(self) -> None:
        """Open it for good: the process has ended or is to end, and what is left in its pipes is to be read."""
        self._is_released = True
        self.turn(is_closed=False)


class Program(Struct, frozen=True, kw_only=True):
    """A process to make: by argv, without a shell, as the leader of its own group.

    `environment` is complete. `account`: a user of this machine to run as, None for our own. `executable`: the file to
    run, None for the one that argv[0] names or is found at.
    """

    job_id: str
    argv: list[str]
    environment: Mapping[str, str]
    timeout_seconds: float
    working_directory: str | None = None
    account: Account | None = None
    executable: str | None = None


class _Reader(asyncio.SubprocessProtocol):
    """Hands output to the sink as it comes."""

    def __init__(self, sink: Sink, begun: Callable[[int], None]) -> None:
        """`begun` hears the number of the process before `sink` hears what it says."""
        self.transport: asyncio.SubprocessTransport | None = None
        self.connected = asyncio.Event()
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self._sink = sink
        self._begun = begun
        self._open_pipes = set(_STREAMS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.SubprocessTransport):
            self.transport = transport
            self._begun(transport.get_pid())
        self.connected.set()

    def pipe_data_received(self, descriptor: int, data: bytes) -> None:
        self._sink(_STREAMS[descriptor], data)

    def pipe_connection_lost(self, descriptor: int, _error: Exception | None) -> None:
        self._open_pipes.discard(descriptor)
        if not self._open_pipes:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()


class Watch(Struct, frozen=True):
    """What a run of a program tells, and is told: output, its start, whether it is cancelled, when to slow down."""

    sink: Sink
    started: Callable[[], None]
    cancelled: asyncio.Event
    valve: Valve = field(default_factory=Valve)


async def run_process(program: Program, watch: Watch, kin: Kin, kill_grace_seconds: float) -> Ending:
    """Run it to its end, at most for its timeout, or until it is cancelled.

    A timeout or a cancel ends every process of the job. When the task itself is cancelled, all of them are killed at
    once and CancelledError goes on.
    """

    def begun(leader: int) -> None:
        kin.lead(program.job_id, leader)
        watch.started()

    reader = _Reader(watch.sink, begun)
    run = _Run(program, reader, kin)
    with kin.starting():
        try:
            # Cancelled on its way, asyncio would kill the leader alone, and wait for whoever else holds the pipes.
            transport = await asyncio.shield(_made(program, reader, kin))
        except asyncio.CancelledError:
            if await _wait(reader.connected, _DRAIN_SECONDS) and reader.transport is not None:
                await run.kill()
                reader.transport.close()
                kin.left(program.job_id)
            raise
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return _start_failure(program, error)
    watch.valve.fit([transport.get_pipe_transport(descriptor) for descriptor in _STREAMS])
    try:
        return await _supervised(run, watch, kill_grace_seconds)
    finally:
        try:
            if not reader.exited.is_set():
                await run.kill()
        finally:
            transport.close()
            kin.left(program.job_id)


async def _made(program: Program, reader: _Reader, kin: Kin) -> asyncio.SubprocessTransport:
    account = program.account
    whose: dict[str, Any] = {}
    if account is not None and not account.is_ours:
        whose = {"user": account.user_id, "group": account.group_id, "extra_groups": account.groups}
    with kin.labelling(program.job_id):
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: reader,
            *program.argv,
            executable=program.executable,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=program.working_directory,
            env=dict(program.environment),
            start_new_session=True,
            **whose,
        )
    return transport


def environment_of(given: Mapping[str, str], inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a job's process sees: a few harmless variables of ours, then what the order gives."""
    return {name: inherited[name] for name in _INHERITED if name in inherited} | dict(given)


class _Run:
    """A program's processes while they run: how all of them are reached."""

    def __init__(self, program: Program, reader: _Reader, kin: Kin) -> None:
        self.program = program
        self.reader = reader
        self._kin = kin

    @property
    def exit_code(self) -> int | None:
        return self.reader.transport.get_returncode() if self.reader.transport else None

    async def finish(self, grace_seconds: float) -> str:
        """Ask all of them to end, and kill what is left after the grace. Returns what there is to say of survivors."""
        self._kin.ask(self.program.job_id, signal.SIGTERM)
        if await _wait(self.reader.exited, grace_seconds):
            await _wait(self.reader.drained, min(grace_seconds, _DRAIN_SECONDS))
        left = await self.kill()
        await _wait(self.reader.drained, _DRAIN_SECONDS)
        return _told(left, "did not end")

    async def let_be(self) -> str:
        """Return what there is to say of what the first process has left behind, which goes on."""
        if not (seen := self._kin.left_behind(self.program.job_id)):
            return ""
        await asyncio.sleep(_LEAVING_SECONDS)
        there = {resident.birth for resident in self._kin.left_behind(self.program.job_id)}
        return _told([resident for resident in seen if resident.birth in there], "went on")

    async def kill(self) -> list[Resident]:
        """Kill all of them, again until none is found: one may make another in the moment before it dies.

        Returns what is still there after a while.
        """
        census, left = Census(), list[Resident]()
        if not self.reader.exited.is_set() and self.reader.transport is not None:
            kill_group(self.reader.transport.get_pid())
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                # The ends of other processes than the first are no event here.
                empty_looks = 0
                while empty_looks < _EMPTY_LOOKS:
                    left = self._kin.kill(self.program.job_id, census)
                    empty_looks = 0 if left or not self.reader.exited.is_set() else empty_looks + 1
                    if empty_looks < _EMPTY_LOOKS:
                        await asyncio.sleep(_KILL_ROUND_SECONDS)
        if left:
            _log.error("processes of a job do not end", command_id=self.program.job_id, processes=len(left))
        return left


async def _supervised(run: _Run, watch: Watch, kill_grace_seconds: float) -> Ending:
    reader, was_cancelled = run.reader, False
    try:
        async with asyncio.timeout(run.program.timeout_seconds):
            was_cancelled = await _happened_first(watch.cancelled, reader.exited)
    except TimeoutError:
        watch.valve.release()
        left = await run.finish(kill_grace_seconds)
        message = f"killed: it ran longer than its limit of {run.program.timeout_seconds:g} s{left}"
        return Ending(CommandOutcome.FAILED, CommandReason.TIMEOUT, run.exit_code, message)
    if was_cancelled:
        watch.valve.release()
        left = await run.finish(kill_grace_seconds)
        message = f"killed: a person cancelled it{left}"
        return Ending(CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON, run.exit_code, message)
    watch.valve.release()
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            was_cancelled = await _happened_first(watch.cancelled, reader.drained)
    # The end stays the first process's own; once a person cancels, what it left behind does not go on.
    left = await run.finish(kill_grace_seconds) if was_cancelled else await run.let_be()
    return _ended_by_itself(run.exit_code, left)


async def _happened_first(event: asyncio.Event, other: asyncio.Event) -> bool:
    """Return whether `event` was set and `other` was not."""
    async with asyncio.TaskGroup() as group:
        waits = [
            group.create_task(event.wait(), name="process-cancel"),
            group.create_task(other.wait(), name="process-end"),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    return not other.is_set()


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _told(left: Sequence[Resident], what: str) -> str:
    """Return what follows the sentence of the end; people are shown it apart from that one."""
    if not left:
        return ""
    named = ", ".join(str(resident.pid) for resident in left[:_NAMED_MAX])
    more = f" and {len(left) - _NAMED_MAX} more" if len(left) > _NAMED_MAX else ""
    return f"; {len(left)} of its processes {what}: {named}{more}"


def _ended_by_itself(exit_code: int | None, left: str) -> Ending:
    if exit_code == 0:
        message = f"ended with exit code 0{left}" if left else ""
        return Ending(CommandOutcome.COMPLETED, None, 0, message)
    if exit_code is not None and exit_code < 0:
        message = f"ended by signal {-exit_code} ({_signal_name(-exit_code)}){left}"
    else:
        message = f"ended with exit code {exit_code}{left}"
    return Ending(CommandOutcome.FAILED, CommandReason.EXIT_CODE, exit_code, message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _start_failure(what: Program, error: Exception) -> Ending:
    program, folder = what.argv[0], what.working_directory
    if folder is not None and not Path(folder).is_dir():
        message = f"cannot start {program!r}: the working directory {folder!r} does not exist"
    elif isinstance(error, FileNotFoundError):
        message = f"cannot start {program!r}: there is no such program on this machine"
    elif isinstance(error, PermissionError):
        message = f"cannot start {program!r}: it is not a program this agent may execute"
    else:
        message = f"cannot start {program!r}: {error}"
    return Ending(CommandOutcome.FAILED, CommandReason.START_FAILED, None, message[:4096])
