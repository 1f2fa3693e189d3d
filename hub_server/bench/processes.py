"""Programs under measurement: started, looked at through /proc, stopped. Linux only."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import Struct

STOP_DEADLINE_SECONDS: Final = 20.0
STEP_DEADLINE_SECONDS: Final = 120.0
COLLECTION_SECONDS: Final = 0.5
LAST_LINES: Final = 12
POLL_SECONDS: Final = 0.004
PR_SET_PDEATHSIG: Final = 1
CPU_CLOCK_OF_PROCESS: Final = 2  # clock_getcpuclockid(3): the id is ~pid << 3 | CPUCLOCK_SCHED


class BenchFailed(Exception):
    """A measurement could not be taken. The message is for the person at the terminal."""


class Memory(Struct, frozen=True):
    """Of a process, in bytes. Private is what no other process shares: Private_Clean and Private_Dirty.

    Of that only what it has written depends on itself alone: a library's pages become private when the last other
    program that had loaded it ends.
    """

    rss_bytes: int
    private_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Program:
    """A running program whose output goes to `log`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def last_words(self) -> str:
        """Return the end of what the program said, for people."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(["", *lines[-LAST_LINES:]]) if lines else "it said nothing"

    async def wait_for(self, is_true: Callable[[], bool], what: str, deadline_seconds: float) -> None:
        """Return once `is_true`. Raises BenchFailed at the deadline, or when the program has ended."""
        deadline = time.monotonic() + deadline_seconds
        while not is_true():
            if self.process.poll() is not None:
                raise BenchFailed(f"{what}: the program ended: {self.last_words()}")
            if time.monotonic() > deadline:
                raise BenchFailed(f"{what}: not within {deadline_seconds:g} s: {self.last_words()}")
            await asyncio.sleep(POLL_SECONDS)

    async def kill(self) -> None:
        """End the program as a power cut would."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def stop(self) -> None:
        """End the program in order, by force if it takes too long."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            await asyncio.to_thread(self.process.wait, STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)


def start(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Program:
    """Start a program that ends with this one, whatever becomes of it."""
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  programs of the bench alone
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  it calls one function of the C library
        )
    return Program(process, log)


async def finished(
    argv: Sequence[str],
    environment: Mapping[str, str],
    text: str = "",
    deadline_seconds: float = STEP_DEADLINE_SECONDS,
) -> str:
    """Run a program to its end and return what it printed. Raises BenchFailed with its own words."""
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            argv,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=deadline_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise BenchFailed(f"{' '.join(argv[:3])} did not end within {deadline_seconds:g} s") from late
    if done.returncode:
        raise BenchFailed(f"{' '.join(argv[:3])} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def own_program(name: str, *arguments: str) -> list[str]:
    """Return the argv of one of the project's programs, beside the Python that runs this."""
    return [str(Path(sys.executable).parent / name), *arguments]


def own_module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def memory_of(pid: int) -> Memory:
    kibibytes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value = line.split()[:2]
        kibibytes[key] = int(value)
    private, written = kibibytes["Private_Clean:"] + kibibytes["Private_Dirty:"], kibibytes["Private_Dirty:"]
    return Memory(rss_bytes=kibibytes["Rss:"] * 1024, private_bytes=private * 1024, written_bytes=written * 1024)


async def live_memory_of(pid: int) -> Memory:
    """Return the memory of a program of the bench after the full garbage collection that SIGUSR2 asks it for."""
    os.kill(pid, signal.SIGUSR2)
    await asyncio.sleep(COLLECTION_SECONDS)
    return memory_of(pid)


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU time that a process used so far, all its threads, also those that ended; to the nanosecond."""
    return time.clock_gettime((~pid << 3) | CPU_CLOCK_OF_PROCESS)


def own_cpu_seconds() -> float:
    """Return the CPU time of this process and of all its descendants that have ended."""
    uses = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in uses)


def machine_cpu_seconds() -> float:
    """Return the CPU time that all programs of the machine used since it started."""
    ticks = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    user, nice, system, _idle, _iowait, irq, softirq, *_ = ticks
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def raise_file_limit(wanted: int) -> None:
    """Let this process and those it starts open `wanted` files. Raises BenchFailed when the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, hard), max(wanted, hard)))
    except (OSError, ValueError) as refused:
        if hard < wanted:
            raise BenchFailed(
                f"{wanted} open files are needed and {hard} allowed: take fewer agents, or raise the limit "
                f"(ulimit -Hn {wanted}, as root)"
            ) from refused
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_on(pid: int, cores: set[int]) -> None:
    """Keep all threads of a process, and those it starts, on `cores`."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def cores_for_load() -> tuple[set[int], set[int]]:
    """Return the core for the program under measurement and those for the load; both the same where there is one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
