"""The processes of a job, also those that have left its group: known by a label, by a mark, and by descent."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from agent_client.execution.census import KILL, Birth, Census, Resident, began_now, birth_of, signal_all
from agent_client.execution.label import Labels, label_of

_PR_SET_CHILD_SUBREAPER: Final = 36
_ENDED_KEPT: Final = 256
_REMAINS_SECONDS: Final = 0.5


class Kin:
    """Which processes belong to which job. One an executor.

    On Linux all of a job bear its label, whatever they did to their environment, their session and their parents. One
    that has put off even that, and whose parents have ended, becomes a child of the executor: it belongs to the job
    that ran when it was made, where no other did.
    """

    def __init__(self) -> None:
        self._leaders: dict[str, int] = {}
        self._births: dict[str, Birth] = {}
        self._ended: deque[tuple[Birth, float]] = deque(maxlen=_ENDED_KEPT)
        self._labels = Labels()
        self._starting = 0
        self._adopts = False

    def adopt(self) -> None:
        """Let orphans of jobs become children of this process, where the system can (Linux); then `reap` is due.

        For a process that has no other children than jobs.
        """
        if sys.platform == "linux":
            self._adopts = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Inside the block a process is made whose number nobody knows yet: it must not be taken for an orphan."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1

    @contextmanager
    def labelling(self, job_id: str) -> Iterator[None]:
        """Inside the block the job's first process is made, before anything else is waited for."""
        with self._labels.worn(job_id):
            yield

    def lead(self, job_id: str, leader: int) -> None:
        self._leaders[job_id] = leader
        if self._adopts:
            self._births[job_id] = birth_of(leader)

    def left(self, job_id: str) -> None:
        """The job's first process has ended and was waited for."""
        self._leaders.pop(job_id, None)
        if (birth := self._births.pop(job_id, None)) is not None:
            self._ended.append((birth, began_now()))
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

    def ask(self, job_id: str, number: int) -> None:
        """Send each process of the job a signal, once."""
        signal_all(self._of(job_id, everybody := Census().residents()), everybody, number)

    def kill(self, job_id: str, census: Census) -> list[Resident]:
        """Kill what there is of the job now. Returns what that was: nothing, once all of it has ended.

        `census`: the same one for a job's killing, again and again. Takes some milliseconds.
        """
        return _killed(self._of(job_id, everybody := census.residents()), everybody)

    def left_behind(self, job_id: str) -> list[Resident]:
        """Return what of the job goes on although its first process has ended, as far as that came to this process."""
        below = Census().descendants() if self._adopts else {}
        return list(self._of(job_id, below).values())

    def _of(self, job_id: str, everybody: Mapping[int, Resident]) -> dict[int, Resident]:
        roots = {pid for pid, resident in everybody.items() if _is_of(resident, job_id)}
        leader = self._leaders.get(job_id)
        if leader is not None:
            roots |= self._unclaimed(job_id, everybody)
            if leader in everybody and everybody[leader].parent == os.getpid():
                roots.add(leader)
        return _family(roots, everybody)

    def _unclaimed(self, job_id: str, everybody: Mapping[int, Resident]) -> set[int]:
        if self._starting or not self._adopts:
            return set()
        return {
            pid
            for pid, resident in everybody.items()
            if resident.parent == os.getpid()
            and not resident.mark
            and resident.label == self._labels.own
            and self._may_have_made(resident) == {job_id}
        }

    def _may_have_made(self, resident: Resident) -> set[str]:
        """Return which of the jobs that run now can have made this process; none where one that has ended can."""
        born = resident.birth
        if any(resident.started <= ended and not born.is_before(birth) for birth, ended in self._ended):
            return set()
        return {job_id for job_id, birth in self._births.items() if not born.is_before(birth)}


def end_remains(job_ids: Collection[str]) -> dict[str, int]:
    """Kill what an earlier life of the executor left of these jobs. Returns how many processes of each there were."""
    left: dict[str, set[tuple[int, float]]] = {job_id: set() for job_id in job_ids}
    census, until = Census(), time.monotonic() + _REMAINS_SECONDS
    while left and time.monotonic() < until:
        everybody = census.residents()
        is_over = True
        for job_id, ended in left.items():
            roots = {pid for pid, resident in everybody.items() if _is_of(resident, job_id)}
            there = _killed(_family(roots, everybody), everybody)
            ended |= {(resident.pid, resident.started) for resident in there}
            is_over = is_over and not there
        if is_over:
            break
    return {job_id: len(ended) for job_id, ended in left.items()}


def _killed(members: Mapping[int, Resident], everybody: Mapping[int, Resident]) -> list[Resident]:
    signal_all(members, everybody, KILL)
    return list(members.values())


def _is_of(resident: Resident, job_id: str) -> bool:
    return resident.mark == job_id or (resident.label != 0 and resident.label == label_of(job_id))


def _family(roots: Collection[int], everybody: Mapping[int, Resident]) -> dict[int, Resident]:
    """Return the living of `roots` and of all below them, but not this process and what is only below it."""
    children: dict[int, list[int]] = {}
    for pid, resident in everybody.items():
        children.setdefault(resident.parent, []).append(pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid not in found and pid != os.getpid():
            found.add(pid)
            ahead += children.get(pid, [])
    return {pid: everybody[pid] for pid in found if pid in everybody and not everybody[pid].is_dead}
