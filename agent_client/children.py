"""Short-lived processes that the daemon asks something: bounded in time and output, of low priority, killed whole."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from msgspec import Struct

from agent_client.errors import AgentError

NICENESS: Final = 10
_DRAIN_SECONDS: Final = 1.0
_ERRORS_MAX_BYTES: Final = 4096
_STDOUT: Final = 1


class ChildFailed(AgentError):
    """It could not be started, took too long, or said too much; the message says which."""

    code: ClassVar[str] = "child"


class Child(Struct, frozen=True, kw_only=True):
    """What to run: by argv, without a shell, as the leader of its own process group."""

    argv: Sequence[str]
    timeout_seconds: float
    output_max_bytes: int
    environment: Mapping[str, str]
    folder: Path | None = None


class Ended(Struct, frozen=True):
    """`exit_code` is negative for a signal; `last_words` is the last line it wrote to standard error."""

    exit_code: int
    output: bytes
    last_words: str

    @property
    def story(self) -> str:
        """Say for a person how it ended."""
        how = f"ended with exit code {self.exit_code}" if self.exit_code >= 0 else f"ended by signal {-self.exit_code}"
        return f"{how}: {self.last_words}" if self.last_words else how


def own_module(module: str, *arguments: str) -> list[str]:
    """Return the argv of a module of this installation, for an environment of `own_environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def own_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def watch_children_without_threads() -> None:
    """Learn of a job's end by a descriptor, as Python 3.12 does anyway: a thread a process triples a job's latency."""
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        with suppress(OSError):  # an old kernel, or one that forbids it: then by threads
            os.close(os.pidfd_open(os.getpid()))
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


async def run_child(child: Child, said: bytes = b"") -> Ended:
    """Run it to its end with `said` on its standard input. Raises ChildFailed.

    When the task is cancelled, the whole group is killed and CancelledError goes on.
    """
    listener = _Listener(child.output_max_bytes)
    try:
        # Cancelled on its way, asyncio would kill the leader alone, and wait for whoever else holds the pipes.
        transport = await asyncio.shield(_started(child, listener, has_input=bool(said)))
    except asyncio.CancelledError:
        if await _happened(listener.connected) and listener.transport is not None:
            kill_group(listener.transport.get_pid())
            await _happened(listener.exited)
            listener.transport.close()
        raise
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ChildFailed(f"cannot start {child.argv[0]!r}: {error}") from error
    try:
        _lower_priority(transport.get_pid())
        _tell(transport, said)
        return await _heard_out(child, transport, listener)
    finally:
        if transport.get_returncode() is None or sys.platform != "win32":  # the leader may have left children behind
            kill_group(transport.get_pid())
            await _happened(listener.exited)
        transport.close()


async def _started(child: Child, listener: _Listener, *, has_input: bool) -> asyncio.SubprocessTransport:
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: listener,
        *child.argv,
        stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=child.folder,
        env=child.environment,
        start_new_session=True,
    )
    return transport


def kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":  # no process groups of this kind; a job object would reach the children
            os.kill(leader, signal.SIGTERM)
        else:
            os.killpg(leader, signal.SIGKILL)


class _Listener(asyncio.SubprocessProtocol):
    """Keeps the output up to a bound, and the end of the errors."""

    def __init__(self, output_max_bytes: int) -> None:
        self.output = bytearray()
        self.errors = bytearray()
        self.is_too_much = False
        self.transport: asyncio.SubprocessTransport | None = None
        self.connected = asyncio.Event()
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self.settled = asyncio.Event()
        self._output_max_bytes = output_max_bytes
        self._open_pipes = 2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.SubprocessTransport):
            self.transport = transport
        self.connected.set()

    def pipe_data_received(self, descriptor: int, data: bytes) -> None:
        if descriptor != _STDOUT:
            self.errors = (self.errors + data)[-_ERRORS_MAX_BYTES:]
        elif len(self.output) + len(data) > self._output_max_bytes:
            self.is_too_much = True
            self.settled.set()
        else:
            self.output += data

    def pipe_connection_lost(self, descriptor: int, _error: Exception | None) -> None:
        if descriptor >= _STDOUT:
            self._open_pipes -= 1
        if not self._open_pipes:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()
        self.settled.set()


async def _heard_out(child: Child, transport: asyncio.SubprocessTransport, listener: _Listener) -> Ended:
    try:
        async with asyncio.timeout(child.timeout_seconds):
            await listener.settled.wait()
    except TimeoutError:
        raise ChildFailed(f"it took longer than {child.timeout_seconds:g} s and was killed") from None
    if listener.exited.is_set():
        await _happened(listener.drained)  # a child of its own may hold the pipes open
    if listener.is_too_much:
        raise ChildFailed(f"it wrote more than {child.output_max_bytes} bytes and was killed")
    return Ended(transport.get_returncode() or 0, bytes(listener.output), _last_line(bytes(listener.errors)))


async def _happened(event: asyncio.Event) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await event.wait()
    return event.is_set()


def _tell(transport: asyncio.SubprocessTransport, said: bytes) -> None:
    pipe = transport.get_pipe_transport(0)
    if said and isinstance(pipe, asyncio.WriteTransport):
        pipe.write(said)
        pipe.close()


def _lower_priority(leader: int) -> None:
    """Leave the processor to the machine's own work: the whole group, in case it has children already."""
    if sys.platform != "win32":
        with suppress(OSError):
            os.setpriority(os.PRIO_PGRP, leader, NICENESS)


def _last_line(errors: bytes) -> str:
    return errors.decode(errors="replace").strip().rpartition("\n")[2].strip()[:300]
