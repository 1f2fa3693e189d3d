"""The executors that agents under test have started: found by their lock, and ended with the test."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from contextlib import suppress

from agent_client.execution.places import ExecutorPlaces
from agent_client.paths import Places


def executor_of(places: Places) -> int | None:
    """Return the process that holds the lock of the executor, None where none does."""
    lock = ExecutorPlaces.beside(places).lock
    if not lock.exists():
        return None
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return int(file.read())
    return None


def end_executor(places: Places, number: int = signal.SIGTERM) -> None:
    """Signal the executor of these places, and wait until it is gone. Nothing happens where there is none."""
    pid = executor_of(places)
    if pid is None:
        return
    with suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        os.kill(pid, number)
        try:
            assert select.select([watched], [], [], 20)[0], "the executor does not end"
        finally:
            os.close(watched)
