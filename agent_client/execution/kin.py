"""The processes of a job, also those that have left its group: found by a mark in their environment and by descent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

MARK: Final = "JTNT_JOB_ID"
"""The variable that every process of a job inherits."""
_PR_SET_CHILD_SUBREAPER: Final = 36
_KILL: Final[int] = getattr(signal, "SIGKILL", signal.SIGTERM)


class Kin:
    """Which processes belong to which job. One an executor.

    A process that cleared its environment and whose parents have ended is still known on Linux: it becomes a child of
    the executor, and belongs to the job that runs when no other does, unless it was there before that job began.
    """

    def __init__(self) -> None:
        self._leaders: dict[str, int] = {}
        self._earlier: dict[str, set[int]] = {}
        self._starting = 0
        self._adopts = False

    def adopt(self) -> None:
        """Let orphans of jobs become children of this process, where the system can (Linux); then `reap` is due.

        For a process that has no other children than jobs.
        """
        if sys.platform == "linux":
            self._adopts = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    @contextmanager
    def starting(self, job_id: str) -> Iterator[None]:
        """Inside the block a process is made whose number nobody knows yet: it must not be taken for an orphan."""
        self._starting += 1
        self._earlier[job_id] = _own_children() if self._adopts else set()
        try:
            yield
        finally:
            self._starting -= 1
            if job_id not in self._leaders:
                self._earlier.pop(job_id, None)

    def lead(self, job_id: str, leader: int) -> None:
        self._leaders[job_id] = leader

    def left(self, job_id: str) -> None:
        """The job's first process has ended and was waited for."""
        self._leaders.pop(job_id, None)
        self._earlier.pop(job_id, None)
        self.reap()

    def reap(self) -> None:
        """Wait for orphans that have ended; a job's first process is waited for by whoever started it."""
        if sys.platform == "win32" or self._starting or not self._adopts:
            return
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid in self._leaders.values():
                    return
                os.waitpid(ended.si_pid, 0)

    def of(self, job_id: str) -> list[psutil.Process]:
        """Return what lives of a job now, but for its first process. Takes some ten milliseconds."""
        seen = _look_around()
        roots = {pid for pid, mark in seen.marks.items() if mark == job_id}
        leader = self._leaders.get(job_id)
        if leader is not None:
            orphans = set(seen.children.get(os.getpid(), ())) - self._earlier.get(job_id, set())
            roots |= {leader, *self._unclaimed(orphans, seen.marks)}
        return seen.family_of(roots - {os.getpid()}, but=leader)

    def _unclaimed(self, orphans: Iterable[int], marks: dict[int, str]) -> set[int]:
        if len(self._leaders) != 1 or self._starting or not self._adopts:
            return set()
        return {pid for pid in orphans if pid not in marks and pid not in self._leaders.values()}


def _own_children() -> set[int]:
    """Return the children of this process, quickly; none where the kernel keeps no such list."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(pid) for pid in thread.read_text().split()}
    return found


def end(processes: Iterable[psutil.Process], number: int) -> int:
    """Send a signal to those that live. Returns how many they were; a process that took over a number is left alone."""
    reached = 0
    for process in processes:
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                process.send_signal(number)
                reached += 1
    return reached


def end_remains(job_ids: Collection[str]) -> dict[str, int]:
    """Kill what an earlier life of the executor left of these jobs. Returns how many processes of each there were."""
    if not job_ids:
        return {}
    seen = _look_around()
    left: dict[str, set[int]] = {job_id: set() for job_id in job_ids}
    for pid, mark in seen.marks.items():
        left.get(mark, set()).add(pid)
    return {job_id: end(seen.family_of(roots), _KILL) for job_id, roots in left.items()}


class _Surroundings(Struct, frozen=True):
    """The processes of this machine, each one's children, and the marks of those that bear one and may be looked at."""

    everybody: dict[int, psutil.Process]
    children: dict[int, list[int]]
    marks: dict[int, str]

    def family_of(self, roots: set[int], but: int | None = None) -> list[psutil.Process]:
        """Return the processes of `roots` and all below them, but not this process and what is only below it."""
        found: set[int] = set()
        ahead = list(roots)
        while ahead:
            pid = ahead.pop()
            if pid not in found and pid != os.getpid():
                found.add(pid)
                ahead += self.children.get(pid, [])
        return [self.everybody[pid] for pid in found - {but} if pid in self.everybody]


def _look_around() -> _Surroundings:
    everybody = {process.pid: process for process in psutil.process_iter()}
    children: dict[int, list[int]] = {}
    marks: dict[int, str] = {}
    for pid, process in everybody.items():
        with suppress(psutil.Error):
            children.setdefault(process.ppid(), []).append(pid)
            marks[pid] = process.environ().get(MARK, "")
    return _Surroundings(everybody, children, {pid: mark for pid, mark in marks.items() if mark})
