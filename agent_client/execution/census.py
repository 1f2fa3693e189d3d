"""The processes of this machine at one moment: whose child each is, and by what it can be known as a job's."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

from agent_client.execution.label import label_in

MARK: Final = "JTNT_JOB_ID"
"""The variable that every process of a job inherits."""
KILL: Final[int] = getattr(signal, "SIGKILL", signal.SIGTERM)
_MARK_IN_ENVIRON: Final = f"{MARK}=".encode()
_PROC: Final = Path("/proc")
_STAT_STATE, _STAT_PARENT, _STAT_GROUP, _STAT_THREADS, _STAT_STARTED = 0, 1, 2, 17, 19
"""Fields of `/proc/PID/stat` behind the name in brackets (proc(5))."""

_NO_GROUPS: Final = frozenset({0, 1})
"""What kill(2) takes for the sender's own group, and for all processes of the machine."""
_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 1.0
_SETTLED: Final = 1.0 / _TICK_SECONDS
_NUMBERS_A_TICK: Final = 16_384
"""More than are made in a tick, and less than there are: behind the highest number they begin anew from the lowest."""


class Birth(Struct, frozen=True):
    """When a process was made: `started` as its Resident has it, and its number."""

    started: float
    pid: int

    def is_before(self, other: Birth) -> bool:
        """Tell whether this one was made before the other; False where that cannot be told.

        Linux gives numbers in turn: of two of one tick, which is long, the one with the number a little lower is older.
        """
        if self.started != other.started:
            return self.started < other.started
        return 0 < other.pid - self.pid < _NUMBERS_A_TICK


class Resident(Struct, frozen=True):
    """A process. `started`: when, in units of the system's own; with `pid` it tells two processes of one number apart.

    `label`, `mark`: of a job; 0 and empty where it has none, or where nobody may look.
    """

    pid: int
    parent: int
    group: int
    started: float
    is_dead: bool
    label: int = 0
    mark: str = ""

    @property
    def birth(self) -> Birth:
        return Birth(self.started, self.pid)


class Census:
    """Looks again as often as it is asked to; what is no job's process a second after its start becomes none later."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, float], Resident] = {}

    def residents(self) -> dict[int, Resident]:
        """Return all processes that can be seen, the newest last."""
        if sys.platform == "linux":
            numbers = sorted(int(folder.name) for folder in _PROC.iterdir() if folder.name.isdigit())
            found = [self._looked_at(pid) for pid in numbers]
        else:
            found = [_asked(process) for process in psutil.process_iter()]
        there = {resident.pid: resident for resident in found if resident is not None}
        settled = began_now() - _SETTLED
        self._known = {(one.pid, one.started): one for one in there.values() if one.started < settled}
        return there

    def descendants(self) -> dict[int, Resident]:
        """Return what is below this process: a look at few of them (Linux); nothing where the system has no list."""
        found: dict[int, Resident] = {}
        ahead = _children(os.getpid())
        while ahead:
            pid = ahead.pop()
            if pid not in found and (seen := self._looked_at(pid)) is not None:
                found[pid] = seen
                ahead += _children(pid)
        return found

    def _looked_at(self, pid: int) -> Resident | None:
        seen = _stat(pid)
        if seen is None or seen.is_dead:
            return seen
        known = self._known.get((pid, seen.started))
        if known is None:
            label, mark = _label(pid), _mark(pid)
        else:
            label, mark = known.label, known.mark
        return Resident(pid, seen.parent, seen.group, seen.started, is_dead=False, label=label, mark=mark)


def began_now() -> float:
    """Return what a process that begins now has as `started`, or a little less (Linux)."""
    return float(int(time.clock_gettime(time.CLOCK_BOOTTIME) / _TICK_SECONDS)) if sys.platform == "linux" else 0.0


def birth_of(pid: int) -> Birth:
    """Return that of a process of our own making (Linux); where it cannot be seen, one that no other is before."""
    seen = _stat(pid)
    return Birth(0.0, 0) if seen is None else seen.birth


def signal_all(members: Mapping[int, Resident], everybody: Mapping[int, Resident], number: int) -> None:
    """Send a signal to each of `members`, once; groups that have no others get it at once, as a whole.

    A process that took over a number is left alone, as is one that is not ours to signal.
    """
    mixed = {one.group for pid, one in everybody.items() if pid not in members and not one.is_dead} | _NO_GROUPS
    whole: dict[int, list[Resident]] = {}
    for resident in members.values():
        if resident.group not in mixed:
            whole.setdefault(resident.group, []).append(resident)
        elif _is_there(resident):
            with suppress(OSError):
                os.kill(resident.pid, number)
    for group, its_members in whole.items():
        if sys.platform != "win32" and any(map(_is_there, its_members)):
            with suppress(OSError):
                os.killpg(group, number)


def _is_there(resident: Resident) -> bool:
    if sys.platform != "linux":
        with suppress(psutil.Error):
            return bool(psutil.Process(resident.pid).create_time() == resident.started)
        return False
    seen = _stat(resident.pid)
    return seen is not None and seen.started == resident.started


def _stat(pid: int) -> Resident | None:
    words = _content(pid, "stat").rpartition(b")")[2].split()
    if len(words) <= _STAT_STARTED:
        return None
    return Resident(
        pid=pid,
        parent=int(words[_STAT_PARENT]),
        group=int(words[_STAT_GROUP]),
        started=float(words[_STAT_STARTED]),
        # With more threads than this one it lives: only its first thread has ended.
        is_dead=words[_STAT_STATE] in {b"Z", b"X"} and int(words[_STAT_THREADS]) <= 1,
    )


def _children(pid: int) -> list[int]:
    """Return those of all threads, as proc(5) has them; none of a process that is not there."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  numbers are wanted, not paths
    except OSError:
        return []
    return [int(child) for thread in threads for child in _content(pid, f"task/{thread}/children").split()]


def _label(pid: int) -> int:
    return label_in(_content(pid, "limits"))


def _mark(pid: int) -> str:
    for variable in _content(pid, "environ").split(b"\0"):
        if variable.startswith(_MARK_IN_ENVIRON):
            return variable.removeprefix(_MARK_IN_ENVIRON).decode(errors="replace")
    return ""


def _content(pid: int, name: str) -> bytes:
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    except OSError:
        return b""
    with suppress(OSError), FileIO(descriptor) as file:
        return file.readall()
    return b""


def _asked(process: psutil.Process) -> Resident | None:
    mark = ""
    with suppress(psutil.Error, OSError):
        mark = process.environ().get(MARK, "")
    try:
        return Resident(
            pid=process.pid,
            parent=process.ppid(),
            group=os.getpgid(process.pid) if sys.platform != "win32" else 0,
            started=process.create_time(),
            is_dead=process.status() == psutil.STATUS_ZOMBIE,
            mark=mark,
        )
    except (psutil.Error, OSError):
        return None
