"""Ends a process at an exact system call, as `kill -9` at that moment would. Linux, with strace installed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

ATTACH_DEADLINE_SECONDS: Final = 20.0
END_DEADLINE_SECONDS: Final = 10.0
ATTACHED: Final = b" attached"
RESOLVED: Final = b"strace: Requested path"


class NoStrace(Exception):
    """There is no strace here, or it may not look at the process. The message says what to do."""


class Counted(StrEnum):
    """Whose calls a point counts. Any thread: whichever comes to the number first."""

    MAIN_THREAD = "main thread"
    ANY_THREAD = "any thread"
    ON_LOG = "on the log"


class KillPoint(Struct, frozen=True):
    """The `number`-th call of `call` from now on; the call is not made any more."""

    meaning: str
    call: str
    number: int
    counted: Counted

    def arguments(self, pid: int, log: Path) -> list[str]:
        inject = f"inject={self.call}:signal=KILL:when={self.number}"
        options = ["-o", "/dev/null", "-e", f"trace={self.call}", "-e", inject, "-p", str(pid)]
        match self.counted:
            case Counted.MAIN_THREAD:
                return options
            case Counted.ANY_THREAD:
                return ["-f", *options]
            case Counted.ON_LOG:
                return ["-f", "-P", str(log), *options]


@asynccontextmanager
async def killed_at(point: KillPoint, pid: int, log: Path) -> AsyncIterator[None]:
    """Within the block the process, which writes to `log`, ends at `point`, and is gone after it.

    Raises NoStrace, TimeoutError.
    """
    program = shutil.which("strace")
    if program is None:
        raise NoStrace("this needs strace: install it with the system's package manager")
    tracer = await asyncio.create_subprocess_exec(program, *point.arguments(pid, log), stderr=asyncio.subprocess.PIPE)
    assert tracer.stderr is not None
    try:
        async with asyncio.timeout(ATTACH_DEADLINE_SECONDS):
            said = await tracer.stderr.readline()
            while said.startswith(RESOLVED):
                said = await tracer.stderr.readline()
        if ATTACHED not in said:
            raise NoStrace(
                f"strace cannot watch the process: {said.decode().strip()}; allow ptrace, or run as its user"
            )
        yield
        async with asyncio.timeout(END_DEADLINE_SECONDS):
            await tracer.wait()  # it ends with the last thread it watches
    finally:
        if tracer.returncode is None:
            with suppress(ProcessLookupError):
                tracer.terminate()
            await tracer.wait()
