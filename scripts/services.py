"""Processes that are kept running, as a service manager would."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

STOP_DEADLINE_SECONDS: Final = 15.0
LOCK_ROUND_SECONDS: Final = 0.05
PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class Service:
    """A process that is started again when it dies, as a service manager would."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    log_file: Path
    restart_seconds: float
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    due_at: float = field(default=0.0, init=False)

    def start(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  this program has one thread
            )

    def keep_running(self) -> None:
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if not self.due_at:
            say(f"{self.name} ended ({_ending_of(self.process.returncode)}); again in {self.restart_seconds:g} s")
            self.due_at = now + self.restart_seconds
        elif now >= self.due_at:
            self.due_at = 0.0
            self.start()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"{self.name} did not stop within {STOP_DEADLINE_SECONDS:g} s and is killed")
            self.process.kill()
            self.process.wait()


def stop_holder(name: str, lock_file: Path) -> None:
    """End the process that holds this lock, in which it wrote its number, and wait until it has let go of it.

    Nothing happens where nobody holds it. Whoever has just taken it may not have written its number yet: one that was
    left in there, which may be anybody's by now, does not stay.
    """
    deadline = time.monotonic() + STOP_DEADLINE_SECONDS
    number, is_asked = "", False
    with suppress(FileNotFoundError), lock_file.open("r+") as file:
        while not _is_free(file):
            if time.monotonic() >= deadline:
                say(f"{name} did not stop within {STOP_DEADLINE_SECONDS:g} s")
                return
            before, number = number, lock_file.read_text()
            if not is_asked and number == before and number.isdigit():
                with suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGTERM)
                is_asked = True
            time.sleep(LOCK_ROUND_SECONDS)


def say(line: str) -> None:
    """Tell whoever is there: all else goes on, and ends in order, when the terminal has gone."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ending_of(return_code: int) -> str:
    return f"exit code {return_code}" if return_code >= 0 else signal.Signals(-return_code).name


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
