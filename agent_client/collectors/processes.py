"""The processes that use most. Taken only where the organisation turned it on; never their arguments."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent_client.collectors.readings import Readings, wire_text

SHOWN_MAX: Final = 10
BUSIEST: Final = 5
_PASSWD: Final = Path("/etc/passwd")


class Process(NamedTuple):
    """`started` tells a process from a later one of the same pid; its unit is the source's own."""

    pid: int
    started: float
    name: str
    processor_seconds: float
    memory_bytes: int


class ProcessCollector:
    """`process_top`: the BUSIEST that used most of the processor since the call before, then the largest in memory.

    `cpu_percent` is of the whole machine, as that of `system`.
    """

    name: Final = "process_top"

    def __init__(
        self,
        processes: Callable[[], Iterable[Process]] | None = None,
        user_of: Callable[[int], str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        is_linux = sys.platform.startswith("linux")
        self._processes = processes or (_of_proc if is_linux else _of_psutil)
        self._user_of = user_of or (_Owners().name_of if is_linux else _user_of_psutil)
        self._monotonic = monotonic
        self._used: dict[tuple[int, float], float] = {}
        self._at: float | None = None

    def collect(self) -> Readings:
        """Raises OSError when the machine does not tell. The first call has no shares of the processor yet."""
        now, processes = self._monotonic(), [*self._processes()]
        before, self._used = self._used, {(one.pid, one.started): one.processor_seconds for one in processes}
        seconds = max(now - self._at, 0.001) if self._at is not None else float("inf")
        self._at = now
        capacity = seconds * (os.cpu_count() or 1)
        shares = {
            one.pid: min(100 * (one.processor_seconds - before.get((one.pid, one.started), 0.0)) / capacity, 100.0)
            for one in processes
        }
        return {
            self.name: {
                "processes": [
                    {
                        "pid": one.pid,
                        "name": wire_text(one.name),
                        "user": wire_text(self._user_of(one.pid)),
                        "cpu_percent": round(max(shares[one.pid], 0.0), 1),
                        "memory_bytes": one.memory_bytes,
                    }
                    for one in _top(processes, shares)
                ]
            }
        }


def _top(processes: list[Process], shares: dict[int, float]) -> list[Process]:
    by_share = sorted(processes, key=lambda one: (shares[one.pid], one.memory_bytes), reverse=True)
    rest = sorted(by_share[BUSIEST:], key=lambda one: one.memory_bytes, reverse=True)
    return by_share[:BUSIEST] + rest[: SHOWN_MAX - BUSIEST]


def _of_proc() -> Iterator[Process]:
    """Read /proc itself: a tenth of what it costs through an object a process."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for pid in os.listdir("/proc"):  # noqa: PTH208  names alone, without an object each
        if pid.isdecimal():
            with suppress(OSError, ValueError, IndexError):  # ended meanwhile
                yield _of_stat(int(pid), Path(f"/proc/{pid}/stat").read_bytes(), ticks, page)


def _of_stat(pid: int, stat: bytes, ticks: int, page: int) -> Process:
    """Raises ValueError or IndexError where `stat` is none (proc(5): fields 2, 14, 15, 22 and 24)."""
    head, _, tail = stat.rpartition(b")")
    fields = tail.split()
    name = head.partition(b"(")[2].decode(errors="replace")
    return Process(pid, float(fields[19]), name, (int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page)


class _Owners:
    """Names of users by /etc/passwd alone: a directory on the network may be slow to answer. Else their number."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._read_at = 0.0

    def name_of(self, pid: int) -> str:
        try:
            user = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116  no object for a look of a microsecond
            changed = _PASSWD.stat().st_mtime
            if changed != self._read_at:
                self._names, self._read_at = _users(_PASSWD.read_text(errors="replace")), changed
        except OSError:
            return ""
        return self._names.get(user, str(user))


def _users(passwd: str) -> dict[int, str]:
    rows = (line.split(":") for line in passwd.splitlines())
    return {int(row[2]): row[0] for row in rows if len(row) > 2 and row[2].isdecimal()}


def _of_psutil() -> Iterator[Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            used = times.user + times.system
            yield Process(process.pid, process.create_time(), process.name(), used, process.memory_info().rss)


def _user_of_psutil(pid: int) -> str:
    with suppress(psutil.Error):
        return psutil.Process(pid).username()
    return ""
