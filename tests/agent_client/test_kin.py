"""A job's processes are all found when it is to end: in its group or not, whoever their parent is."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent_client.execution import kin as kinship
from agent_client.execution import process
from agent_client.execution.capture import Capture
from agent_client.execution.census import Birth, Census, Resident, signal_all
from agent_client.execution.kin import Kin, end_remains
from agent_client.execution.process import Ending, Watch, run_process
from protocol.enumerations import CommandOutcome, CommandReason, OutputStream
from tests.agent_client.test_process import gone, is_alive, program

OUT = OutputStream.STDOUT
LEAVES = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        {quiet}
        time.sleep(60)
    os._exit(0)
os.wait()
{then}
"""
"""A process that leaves its group and its parent, and does not end when asked."""


HIDES = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", "trap '' TERM; echo $$; exec sleep 60"], {})
    os._exit(0)
os.wait()
time.sleep(60)
"""
"""A process that leaves its group, its parent and its environment, and does not end when asked."""
STORM = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
[os.close(n) for n in (0, 1, 2)]
for _ in range(5000):
    if os.fork():
        os._exit(0)
    os.setsid()
"""
"""A process that is always another one, in a group of its own and without a parent, and ends when nobody ends it."""


HAS_NO_FIRST_THREAD = (
    "import ctypes, threading; threading.Thread(target=time.sleep, args=(60,)).start(); "
    "ctypes.CDLL(None).pthread_exit(None)"
)


class Watched:
    """A run of a program under test, under an id that no other test of this machine has."""

    def __init__(self, folder: Path, kin: Kin | None = None) -> None:
        self.job_id = f"kin-{uuid4()}"
        self.capture = Capture(folder / "jobs", self.job_id, 1 << 20)
        self.wrote = asyncio.Event()
        self.capture.notify = self.wrote.set
        self.cancel = asyncio.Event()
        self.kin = kin or Kin()

    async def run(self, argv: list[str], **changes: object) -> Ending:
        watch = Watch(self.capture.write, lambda: None, self.cancel)
        try:
            return await run_process(program(argv, self.job_id, **changes), watch, self.kin, 0.2)
        finally:
            self.capture.finish()

    def pids(self) -> list[int]:
        chunk = self.capture.read(OUT, 0, is_complete=True)
        assert chunk is not None
        return [int(word) for word in chunk.data.split()]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.capture.close()


def leaving(quiet: str = "pass", then: str = "time.sleep(60)") -> list[str]:
    return [sys.executable, "-c", LEAVES.format(quiet=quiet, then=then)]


CLOSED = "[os.close(n) for n in (0, 1, 2)]"


@pytest.mark.parametrize("quiet", ["pass", CLOSED], ids=["holds the pipe", "closed the pipe"])
async def test_a_timeout_ends_what_has_left_the_group_and_ignores_the_request(watched: Watched, quiet: str) -> None:
    ending = await watched.run(leaving(quiet), timeout_sec=0.5)
    assert ending.reason is CommandReason.TIMEOUT
    assert all([await gone(pid) for pid in watched.pids()])


async def test_a_cancel_ends_it_too(watched: Watched) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watched.run(leaving()), name="job")
        await watched.wrote.wait()
        watched.cancel.set()
    assert running.result().outcome is CommandOutcome.CANCELLED
    assert all([await gone(pid) for pid in watched.pids()])


async def test_what_is_left_behind_does_not_go_on_when_a_person_cancels_while_it_holds_the_pipe(
    watched: Watched,
) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watched.run(leaving(then="sys.exit(5)")), name="job")
        await watched.wrote.wait()
        while is_alive(watched.kin._leaders[watched.job_id]):  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0.005)
        watched.cancel.set()
    assert running.result().exit_code == 5
    assert all([await gone(pid) for pid in watched.pids()])


async def test_a_process_whose_first_thread_alone_has_ended_is_ended(watched: Watched) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watched.run(leaving(HAS_NO_FIRST_THREAD)), name="job")
        await watched.wrote.wait()
        (pid,) = watched.pids()
        while is_alive(pid):  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0.005)
        assert threads_of(pid) == 2
        watched.cancel.set()
    assert running.result().message == "killed: a person cancelled it"
    assert threads_of(pid) <= 1


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}").glob("task/*")))


async def test_where_the_machine_cannot_be_looked_at_the_process_is_ended_and_let_go(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def see_nothing(_census: Census) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Census, "residents", see_nothing)
    with pytest.raises(OSError, match="Too many"):
        await watched.run(["sh", "-c", "echo $$; exec sleep 60"], timeout_sec=1)
    assert all([await gone(pid) for pid in watched.pids()])
    assert watched.kin._leaders == {}


@pytest.mark.parametrize("forbidden", ["getrlimit", "setrlimit"])
async def test_where_nobody_may_label_processes_jobs_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    """As in a sandbox that knows no such limit, or lets nobody change it."""

    def forbid(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, forbidden, forbid)
    watched = Watched(tmp_path)
    assert (await watched.run(["sh", "-c", "echo $$"])).exit_code == 0
    watched.capture.close()


def test_a_group_that_stands_for_all_processes_is_never_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    signalled: list[str] = []
    monkeypatch.setattr(os, "killpg", lambda group, _number: signalled.append(f"group {group}"))
    monkeypatch.setattr(os, "kill", lambda pid, _number: signalled.append(f"process {pid}"))
    us = Census().residents()[os.getpid()]
    odd = Resident(pid=us.pid, parent=us.parent, group=1, started=us.started, is_dead=False)
    signal_all({odd.pid: odd}, {odd.pid: odd}, signal.SIGTERM)
    assert signalled == [f"process {odd.pid}"]


async def test_a_job_of_another_id_is_not_touched(watched: Watched) -> None:
    others = [f"kin-{uuid4()}" for _ in range(2)]
    other = await asyncio.create_subprocess_exec("sleep", "60", env=os.environ | {"JTNT_JOB_ID": others[0]})
    await watched.run(leaving(), timeout_sec=0.3)
    assert other.returncode is None
    assert is_alive(other.pid)
    assert end_remains(others) == {others[0]: 1, others[1]: 0}
    assert await other.wait() == -signal.SIGKILL


async def test_of_two_jobs_that_hide_processes_the_one_that_is_cancelled_loses_them(
    watched: Watched, tmp_path: Path
) -> None:
    other = Watched(tmp_path, watched.kin)
    async with asyncio.TaskGroup() as group:
        beside = group.create_task(other.run([sys.executable, "-c", HIDES]), name="beside")
        running = group.create_task(watched.run([sys.executable, "-c", HIDES]), name="job")
        for job in (watched, other):
            await job.wrote.wait()
        watched.cancel.set()
        assert (await running).message == "killed: a person cancelled it"
        assert all([await gone(pid) for pid in watched.pids()])
        assert all(is_alive(pid) for pid in other.pids())
        other.cancel.set()
        await beside
    assert all([await gone(pid) for pid in other.pids()])
    other.capture.close()


async def test_a_process_that_is_always_another_one_is_ended(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_KILL_SECONDS", 30.0)  # this process adopts no orphans, and may be one of many
    async with asyncio.TaskGroup() as group:
        running = group.create_task(
            watched.run(["sh", "-c", '"$0" -c "$1" & sleep 60', sys.executable, STORM]), name="job"
        )
        await watched.wrote.wait()
        watched.cancel.set()
    assert running.result().message == "killed: a person cancelled it"
    assert watched.kin.kill(watched.job_id, Census()) == []


async def test_a_group_is_ended_at_once_though_one_of_it_is_dead_and_not_waited_for(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent of the dead one is the one that goes on."""
    groups: list[int] = []
    kill_group = os.killpg

    def noted(group: int, number: int) -> None:
        groups.append(group)
        kill_group(group, number)

    monkeypatch.setattr(os, "killpg", noted)
    code = "import os, time; os.fork() or os._exit(0); print(os.getpid(), flush=True); time.sleep(60)"
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watched.run([sys.executable, "-c", code]), name="job")
        await watched.wrote.wait()
        (leader,) = watched.pids()
        census = Census()
        while not any(one.is_dead and one.group == leader for one in census.residents().values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        watched.kin.ask(watched.job_id, signal.SIGTERM)
        assert (await running).exit_code == -signal.SIGTERM
    assert groups == [leader]


async def test_what_does_not_end_is_said(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinship, "KILL", 0)
    monkeypatch.setattr(process, "_KILL_SECONDS", 0.1)
    monkeypatch.setattr(process, "_DRAIN_SECONDS", 0.1)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watched.run([sys.executable, "-c", HIDES]), name="job")
        await watched.wrote.wait()
        watched.cancel.set()
    (pid,) = watched.pids()
    assert running.result().message == f"killed: a person cancelled it; 1 of its processes did not end: {pid}"
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("exit_code", [0, 5])
async def test_what_a_cancel_does_not_end_of_what_was_left_behind_is_said(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, exit_code: int
) -> None:
    monkeypatch.setattr(kinship, "KILL", 0)
    monkeypatch.setattr(process, "_KILL_SECONDS", 0.1)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watched.run(leaving(then=f"sys.exit({exit_code})")), name="job")
        await watched.wrote.wait()
        leader = watched.kin._leaders[watched.job_id]
        while threads_of(leader):  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0.005)
        monkeypatch.setattr(process, "_DRAIN_SECONDS", 0.1)  # from here on: the pipe stays open for good
        watched.cancel.set()
    (pid,) = watched.pids()
    assert running.result().exit_code == exit_code
    assert running.result().message.endswith(f"; 1 of its processes did not end: {pid}")
    os.kill(pid, signal.SIGKILL)


async def test_what_hides_from_the_executors_next_life_is_ended_by_it(watched: Watched) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watched.run([sys.executable, "-c", HIDES]), name="job")
        await watched.wrote.wait()
        assert end_remains([watched.job_id]) == {watched.job_id: 2}
        assert all([await gone(pid) for pid in watched.pids()])
        assert (await running).exit_code == -signal.SIGKILL


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_a_run_that_is_cancelled_while_its_process_is_made_leaves_none(watched: Watched, turns: int) -> None:
    """The loop stands still for a moment, in which the process that nobody knows yet makes another."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(watched.run(["sh", "-c", "setsid sleep 60 & wait"]), name="job")
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251
        running.cancel()
    assert watched.kin.kill(watched.job_id, Census()) == []


@pytest.mark.parametrize(
    ("born", "other", "is_before"),
    [
        (Birth(7.0, 900), Birth(8.0, 5), True),
        (Birth(8.0, 5), Birth(7.0, 900), False),
        (Birth(7.0, 900), Birth(7.0, 902), True),
        (Birth(7.0, 902), Birth(7.0, 900), False),
        (Birth(7.0, 900), Birth(7.0, 900), False),
        (Birth(7.0, 301), Birth(7.0, 32_767), False),
    ],
    ids=["earlier tick", "later tick", "lower number", "higher number", "itself", "numbers begun anew in between"],
)
def test_of_two_processes_of_one_tick_the_numbers_tell_which_was_made_first(
    born: Birth, other: Birth, is_before: bool
) -> None:
    assert born.is_before(other) is is_before
