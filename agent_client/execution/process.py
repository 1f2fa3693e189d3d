"""One process by argv, without a shell: its output captured, its time bounded, its whole group killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from protocol.enumerations import CommandOutcome, CommandReason, OutputStream
from protocol.envelope import JobEnvelope

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

Sink = Callable[[OutputStream, bytes], None]


class Ending(Struct, frozen=True):
    """How a process ended; `exit_code` is negative for a signal, None when none was made or it was killed by us."""

    outcome: CommandOutcome
    reason: CommandReason | None
    exit_code: int | None
    message: str


class _Reader(asyncio.BaseProtocol):
    """Hands output to the sink as it comes; the calls are those of asyncio.SubprocessProtocol."""

    def __init__(self, sink: Sink) -> None:
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self._sink = sink
        self._open_pipes = set(_STREAMS)

    def pipe_data_received(self, descriptor: int, data: bytes) -> None:
        self._sink(_STREAMS[descriptor], data)

    def pipe_connection_lost(self, descriptor: int, _error: Exception | None) -> None:
        self._open_pipes.discard(descriptor)
        if not self._open_pipes:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()


async def run_process(
    envelope: JobEnvelope,
    sink: Sink,
    started: Callable[[], None],
    cancelled: asyncio.Event,
    kill_grace_seconds: float,
) -> Ending:
    """Run the order to its end, at most for its timeout, or until `cancelled` is set. Calls `started` once it runs.

    When the task itself is cancelled, the group is killed at once and CancelledError goes on.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, reader = await loop.subprocess_exec(
            lambda: _Reader(sink),
            *envelope.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=envelope.working_directory,
            env=environment_of(envelope.environment),
            start_new_session=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return _start_failure(envelope, error)
    started()
    try:
        return await _supervise(envelope, transport, reader, cancelled, kill_grace_seconds)
    finally:
        if transport.get_returncode() is None:
            _signal_group(transport, _KILL)
        transport.close()


def environment_of(given: Mapping[str, str], inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a job's process sees: a few harmless variables of ours, then what the order gives."""
    return {name: inherited[name] for name in _INHERITED if name in inherited} | dict(given)


async def _supervise(
    envelope: JobEnvelope,
    transport: asyncio.SubprocessTransport,
    reader: _Reader,
    cancelled: asyncio.Event,
    kill_grace_seconds: float,
) -> Ending:
    was_cancelled = False
    try:
        async with asyncio.timeout(envelope.timeout_sec):
            was_cancelled = await _exited_or_cancelled(reader, cancelled)
    except TimeoutError:
        await _end_group(transport, reader, kill_grace_seconds)
        message = f"killed: it ran longer than its limit of {envelope.timeout_sec:g} s"
        return Ending(CommandOutcome.FAILED, CommandReason.TIMEOUT, transport.get_returncode(), message)
    if was_cancelled:
        await _end_group(transport, reader, kill_grace_seconds)
        message = "killed: a person cancelled it"
        return Ending(CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON, transport.get_returncode(), message)
    await _wait(reader.drained, _DRAIN_SECONDS)
    return _ended_by_itself(transport.get_returncode())


async def _exited_or_cancelled(reader: _Reader, cancelled: asyncio.Event) -> bool:
    """Return whether it was cancelled before it exited."""
    async with asyncio.TaskGroup() as group:
        waits = [
            group.create_task(reader.exited.wait(), name="process-exit"),
            group.create_task(cancelled.wait(), name="process-cancel"),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    return not reader.exited.is_set()


async def _end_group(transport: asyncio.SubprocessTransport, reader: _Reader, grace_seconds: float) -> None:
    """Ask the whole group to end, and kill what is left of it after the grace."""
    _signal_group(transport, signal.SIGTERM)
    if await _wait(reader.exited, grace_seconds):
        await _wait(reader.drained, min(grace_seconds, _DRAIN_SECONDS))
    _signal_group(transport, _KILL)
    await _wait(reader.exited, _DRAIN_SECONDS)
    await _wait(reader.drained, _DRAIN_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _signal_group(transport: asyncio.SubprocessTransport, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":  # no process groups of this kind; a job object would reach the children
            transport.kill()
        else:
            os.killpg(transport.get_pid(), number)  # start_new_session made the process the leader of its group


_KILL: Final[int] = getattr(signal, "SIGKILL", signal.SIGTERM)


def _ended_by_itself(exit_code: int | None) -> Ending:
    if exit_code == 0:
        return Ending(CommandOutcome.COMPLETED, None, 0, "")
    if exit_code is not None and exit_code < 0:
        message = f"ended by signal {-exit_code} ({_signal_name(-exit_code)})"
    else:
        message = f"ended with exit code {exit_code}"
    return Ending(CommandOutcome.FAILED, CommandReason.EXIT_CODE, exit_code, message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _start_failure(envelope: JobEnvelope, error: Exception) -> Ending:
    program, folder = envelope.argv[0], envelope.working_directory
    if folder is not None and not Path(folder).is_dir():
        message = f"cannot start {program!r}: the working directory {folder!r} does not exist"
    elif isinstance(error, FileNotFoundError):
        message = f"cannot start {program!r}: there is no such program on this machine"
    elif isinstance(error, PermissionError):
        message = f"cannot start {program!r}: it is not a program this agent may execute"
    else:
        message = f"cannot start {program!r}: {error}"
    return Ending(CommandOutcome.FAILED, CommandReason.START_FAILED, None, message[:4096])
