"""Jobs that somebody at a terminal waits for, on one machine or several, until their end or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from hub_server.operator.cli.outcome import Exit, cut_of, exit_code_of, exit_of, sentence_of
from hub_server.operator.cli.printing import Printer
from hub_server.operator.errors import OperatorError, Refused
from hub_server.operator.jobs import Job
from hub_server.terminal.columns import visible

AT_A_TIME: Final = 32
"""Machines whose jobs are created at a time."""
DATA: Final = "$.commandData."
OPTIONS: Final = {
    "$.reason": "--reason",
    "$.timeoutSec": "--timeout",
    "$.expiresInSec": "--expires",
    f"{DATA}runAs": "--as",
    f"{DATA}environment": "--env",
    f"{DATA}workingDirectory": "--cwd",
}
"""What sets a field of an order; other names of its data are told to people as they are."""


class Presses:
    """Ctrl-C, counted."""

    def __init__(self) -> None:
        self._count = 0
        self._pressed = asyncio.Event()

    def press(self) -> None:
        self._count += 1
        self._pressed.set()

    async def reach(self, count: int) -> None:
        """Return once it was pressed so often."""
        while self._count < count:
            self._pressed.clear()
            await self._pressed.wait()


class Errand:
    """One machine's job. `outcome`: what `jtnt` ends with, for this one."""

    def __init__(self, name: str, create: Callable[[], Awaitable[Job]], printer: Printer) -> None:
        """`create`: gives the order, or finds a job that is there."""
        self.name = name
        self.job: Job | None = None
        self.outcome: int = Exit.CANCELLED
        self._create = create
        self._printer = printer
        self._is_unwanted = False

    async def order(self, room: asyncio.Semaphore, *, waits: bool) -> None:
        """Do it, and say what a person has to know; nothing is raised that the others would suffer from."""
        try:
            async with room:
                self.job = await self._create()
            await self._printer.begin(self.job.view)
            if self._is_unwanted:
                await self.job.cancel()
            if not waits:
                self.outcome = Exit.DONE
                return
            async for chunk in self.job.output():
                await self._printer.chunk(chunk)
            view = await self.job.result()
            await self._printer.end(view)
            self.outcome = exit_code_of(view)
            say(self.name, sentence_of(view))
            say(self.name, cut_of(view))
        except OperatorError as error:
            self.outcome = exit_of(error)
            say(self.name, _words_of(error) + self._what_is_left())
        except OSError as error:
            self.outcome = Exit.SOME_FAILED
            say(self.name, f"its output cannot be written: {error.strerror}" + self._what_is_left())

    async def cancel(self) -> None:
        """Ask for the job's end; one that is not there yet is cancelled as soon as it is."""
        self._is_unwanted = True
        if self.job is None:
            return
        try:
            await self.job.cancel()
        except OperatorError as error:
            say(self.name, f"it could not be cancelled: {error.message}")

    def _what_is_left(self) -> str:
        if self.job is None or self.job.has_ended:
            return ""
        return f"; the job goes on, follow it with `jtnt watch {self.job.id}`"


async def attend(errands: Sequence[Errand], *, waits: bool, cancels: bool = True) -> int:
    """Do all of it, and return the exit code. The first Ctrl-C cancels the jobs if `cancels`, the next leaves them."""
    room = asyncio.Semaphore(AT_A_TIME)
    with interrupts() as presses:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(errand.order(room, waits=waits), name=f"errand-{errand.name}") for errand in errands
            ]
            stopping = tasks.create_task(
                _stop_when_told(presses, errands, running, cancels=cancels), name="errands-interrupted"
            )
            await asyncio.wait(running)
            stopping.cancel()
    outcomes = {errand.outcome for errand in errands}
    if len(errands) == 1 or outcomes == {Exit.DONE}:
        return errands[0].outcome
    return Exit.CANCELLED if Exit.CANCELLED in outcomes else Exit.SOME_FAILED


def say(name: str, sentence: str) -> None:
    """Tell a person, beside the output."""
    if sentence:
        print(visible(f"jtnt: {name}: {sentence}"), file=sys.stderr)


@contextmanager
def interrupts() -> Iterator[Presses]:
    """Count Ctrl-C instead of obeying it, until the block ends."""
    presses, loop = Presses(), asyncio.get_running_loop()

    def told(_number: int, _frame: Any) -> None:
        loop.call_soon_threadsafe(presses.press)

    before = signal.signal(signal.SIGINT, told)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)


async def _stop_when_told(
    presses: Presses, errands: Sequence[Errand], running: Sequence[asyncio.Task[None]], *, cancels: bool
) -> None:
    await presses.reach(1)
    if cancels:
        await _cancel_until(presses, errands, running)
    for errand, task in zip(errands, running, strict=True):
        if not task.done():
            task.cancel()
            if errand.job is not None:
                say(errand.name, f"left as it is; follow it with `jtnt watch {errand.job.id}`")


async def _cancel_until(presses: Presses, errands: Sequence[Errand], running: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what goes on, and return at the second Ctrl-C."""
    print("jtnt: cancelling; Ctrl-C again leaves it running", file=sys.stderr)
    async with asyncio.TaskGroup() as tasks:
        cancelling = [
            tasks.create_task(errand.cancel(), name=f"cancel-{errand.name}")
            for errand, task in zip(errands, running, strict=True)
            if not task.done()
        ]
        await presses.reach(2)
        for each in cancelling:
            each.cancel()


def place_of(path: str) -> str:
    """Return what a person calls the field of an order; empty for one that no option sets."""
    return OPTIONS.get(path, path.removeprefix(DATA) if path.startswith(DATA) else "")


def _words_of(error: OperatorError) -> str:
    if not isinstance(error, Refused):
        return error.message
    place = place_of(error.path or "")
    later = f"; try again in {error.retry_after_seconds} s" if error.retry_after_seconds else ""
    return f"{error.message}{f' ({place})' if place else ''}{later}"
