"""A job's processes are all found when it is to end: in its group or not, whoever their parent is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.execution.capture import Capture
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


class Watched:
    """A run of a program under test."""

    def __init__(self, folder: Path) -> None:
        self.capture = Capture(folder / "jobs", "kin-1", 1 << 20)
        self.wrote = asyncio.Event()
        self.capture.notify = self.wrote.set
        self.cancel = asyncio.Event()
        self.kin = Kin()

    async def run(self, argv: list[str], **changes: object) -> Ending:
        watch = Watch(self.capture.write, lambda: None, self.cancel)
        try:
            return await run_process(program(argv, "kin-1", **changes), watch, self.kin, 0.2)
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
        while is_alive(watched.kin._leaders["kin-1"]):  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0.005)
        watched.cancel.set()
    assert running.result().exit_code == 5
    assert all([await gone(pid) for pid in watched.pids()])


async def test_a_job_of_another_id_is_not_touched(watched: Watched) -> None:
    other = await asyncio.create_subprocess_exec("sleep", "60", env=os.environ | {"JTNT_JOB_ID": "kin-2"})
    await watched.run(leaving(), timeout_sec=0.3)
    assert other.returncode is None
    assert is_alive(other.pid)
    assert end_remains(["kin-2", "kin-3"]) == {"kin-2": 1, "kin-3": 0}
    assert await other.wait() == -signal.SIGKILL


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_a_run_that_is_cancelled_while_its_process_is_made_leaves_none(watched: Watched, turns: int) -> None:
    """The loop stands still for a moment, in which the process that nobody knows yet makes another."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(watched.run(["sh", "-c", "setsid sleep 60 & wait"]), name="job")
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251
        running.cancel()
    assert watched.kin.of("kin-1") == []
