from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent_client.execution.capture import Capture
from agent_client.execution.kin import Kin
from agent_client.execution.orders import plan_of
from agent_client.execution.process import Ending, Program, Valve, Watch, environment_of, run_process
from protocol.enumerations import CommandOutcome, CommandReason, OutputStream
from tests.agent_client.fleet import Fleet

FLEET = Fleet()
OUT, ERR = OutputStream.STDOUT, OutputStream.STDERR


@dataclass
class Ran:
    """A finished process, and what it wrote."""

    ending: Ending
    seconds: float
    texts: dict[OutputStream, str]
    sizes: dict[OutputStream, int]
    written: dict[OutputStream, int]
    truncated: bool

    def text(self, stream: OutputStream = OUT) -> str:
        return self.texts[stream]


async def run(
    folder: Path, argv: list[str], *, limit: int = 1 << 20, cancel: asyncio.Event | None = None, **changes: Any
) -> Ran:
    capture = Capture(folder / "jobs", "process-1", limit)
    began = time.monotonic()
    watch = Watch(capture.write, lambda: None, cancel or asyncio.Event())
    ending = await run_process(program(argv, **changes), watch, Kin(), kill_grace_seconds=0.3)
    capture.finish()
    texts = {stream: everything(capture, stream) for stream in OutputStream}
    capture.close()
    return Ran(ending, time.monotonic() - began, texts, capture.sizes, capture.written, capture.truncated)


def program(argv: list[str], job_id: str | None = None, **changes: Any) -> Program:
    """Return it under an id that no other job of this machine has: by it all processes are found."""
    planned = plan_of(FLEET.envelope(job_id or f"process-{uuid4()}", argv, **changes), None)
    assert isinstance(planned, Program)
    return planned


def everything(capture: Capture, stream: OutputStream) -> str:
    written, offset = "", 0
    while chunk := capture.read(stream, offset, is_complete=True):
        written += chunk.data
        offset += chunk.length_bytes
    return written


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits for its parent to look is dead."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def gone(pid: int) -> bool:
    """Tell whether a process that is none of ours ends soon."""
    for _ in range(300):
        if not is_alive(pid):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_both_streams_are_captured_in_order_and_apart(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(500): print('o', n); print('e', n, file=sys.stderr)"
    ran = await run(tmp_path, python(code))
    assert ran.ending == Ending(CommandOutcome.COMPLETED, None, 0, "")
    assert ran.text() == "".join(f"o {n}\n" for n in range(500))
    assert ran.text(ERR) == "".join(f"e {n}\n" for n in range(500))


async def test_argv_goes_to_the_program_as_it_is_and_to_no_shell(tmp_path: Path) -> None:
    ran = await run(tmp_path, ["echo", "$HOME", "; rm -rf /", "a  b"])
    assert ran.text() == "$HOME ; rm -rf / a  b\n"


async def test_standard_input_is_empty(tmp_path: Path) -> None:
    assert (await run(tmp_path, ["cat"])).ending.outcome is CommandOutcome.COMPLETED


async def test_the_environment_is_small_and_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "x")
    ran = await run(tmp_path, ["env"], environment={"JOB": "7", "PATH": os.environ["PATH"]}, working_directory="/")
    assert "SECRET_OF_THE_AGENT" not in ran.text()
    assert "JOB=7\n" in ran.text()
    assert environment_of({}, {"PATH": "/bin", "OTHER": "1"}) == {"PATH": "/bin"}


async def test_the_working_directory_is_the_given_one(tmp_path: Path) -> None:
    assert (await run(tmp_path, ["pwd"], working_directory=str(tmp_path))).text() == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("argv", "exit_code", "message"),
    [
        (["sh", "-c", "exit 3"], 3, "exit code 3"),
        (["sh", "-c", "kill -SEGV $$"], -11, "SIGSEGV"),
    ],
)
async def test_a_failing_program_says_how_it_ended(
    tmp_path: Path, argv: list[str], exit_code: int, message: str
) -> None:
    ending = (await run(tmp_path, argv)).ending
    assert (ending.outcome, ending.reason, ending.exit_code) == (
        CommandOutcome.FAILED,
        CommandReason.EXIT_CODE,
        exit_code,
    )
    assert message in ending.message


@pytest.mark.parametrize(
    ("argv", "changes", "message"),
    [
        (["no-such-program-here"], {}, "no such program"),
        (["/etc/passwd"], {}, "not a program"),
        (["true"], {"working_directory": "/no/such/folder"}, "/no/such/folder"),
        (["a\0b"], {}, "cannot start"),
    ],
)
async def test_what_cannot_be_started_is_said_clearly(
    tmp_path: Path, argv: list[str], changes: dict[str, Any], message: str
) -> None:
    ending = (await run(tmp_path, argv, **changes)).ending
    assert (ending.outcome, ending.reason, ending.exit_code) == (
        CommandOutcome.FAILED,
        CommandReason.START_FAILED,
        None,
    )
    assert message in ending.message


async def test_a_timeout_kills_the_grandchildren_that_ignore_the_request_too(tmp_path: Path) -> None:
    script = "trap '' TERM; (trap '' TERM; echo $$; sh -c 'echo $PPID; exec sleep 60') & echo $!; wait; sleep 60"
    ran = await run(tmp_path, ["sh", "-c", script], timeout_sec=0.4)
    assert (ran.ending.outcome, ran.ending.reason) == (CommandOutcome.FAILED, CommandReason.TIMEOUT)
    assert "0.4 s" in ran.ending.message
    assert ran.seconds < 5
    pids = {int(line) for line in ran.text().split()}
    assert len(pids) >= 2
    assert all([await gone(pid) for pid in pids])


async def test_a_timeout_kills_what_outlives_the_first_process(tmp_path: Path) -> None:
    script = "(trap '' TERM; exec >/dev/null 2>&1; sleep 60) & echo $!; wait"
    ran = await run(tmp_path, ["sh", "-c", script], timeout_sec=0.3)
    assert ran.ending.reason is CommandReason.TIMEOUT
    assert await gone(int(ran.text()))


async def test_a_cancelled_job_ends_and_says_who_wanted_it(tmp_path: Path) -> None:
    cancel = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, cancel.set)
    ran = await run(tmp_path, ["sh", "-c", "echo $$; sleep 60"], cancel=cancel)
    assert (ran.ending.outcome, ran.ending.reason) == (CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON)
    assert await gone(int(ran.text()))


async def test_what_a_process_that_is_slowed_says_when_it_is_asked_to_end_is_kept(tmp_path: Path) -> None:
    capture, valve, cancel = Capture(tmp_path / "jobs", "process-1", 1000), Valve(), asyncio.Event()
    valve.turn(is_closed=True)
    script = f"trap 'echo bye; exit 3' TERM; touch {tmp_path}/ready; while :; do sleep 0.02; done"
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        watch = Watch(capture.write, lambda: None, cancel, valve)
        running = group.create_task(run_process(program(["sh", "-c", script]), watch, Kin(), 5.0), name="job")
        while not (tmp_path / "ready").exists():  # noqa: ASYNC110  a file has no event
            await asyncio.sleep(0.01)
        cancel.set()
    assert running.result().exit_code == 3
    assert everything(capture, OUT) == "bye\n"
    capture.close()


async def test_the_end_of_the_agent_kills_the_group_at_once(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "jobs", "process-1", 1000)
    wrote = asyncio.Event()
    capture.notify = wrote.set
    watch = Watch(capture.write, lambda: None, asyncio.Event())
    async with asyncio.TaskGroup() as group:
        run = run_process(program(["sh", "-c", "sleep 60 & echo $!; wait"]), watch, Kin(), 5.0)
        task = group.create_task(run, name="job")
        await wrote.wait()
        task.cancel()
    chunk = capture.read(OUT, 0, is_complete=True)
    assert chunk is not None
    capture.close()
    assert await gone(int(chunk.data))


async def test_of_output_beyond_the_limit_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.stdout.write(''.join(f'{n}\\n' for n in range(300000)))\nsys.stderr.write('why')\nsys.exit(7)"
    )
    ran = await run(tmp_path, [sys.executable, "-c", code], limit=100_000)
    written = "".join(f"{n}\n" for n in range(300_000))
    assert ran.ending.exit_code == 7
    assert ran.truncated
    assert ran.written == {OUT: len(written), ERR: 3}
    assert ran.text(ERR) == "why"
    head, said, tail = re.split(r"\n\[… (\d+) bytes left out …\]\n", ran.text())
    assert written.startswith(head)
    assert written.endswith(tail)
    assert len(head) >= 49_997
    assert len(head) + int(said) + len(tail) == len(written)
    assert 99_800 < sum(ran.sizes.values()) <= 100_000


async def test_output_within_the_limit_is_not_called_truncated(tmp_path: Path) -> None:
    ran = await run(tmp_path, ["printf", "12345"], limit=5)
    assert (ran.text(), ran.truncated) == ("12345", False)


async def test_a_child_left_in_the_background_does_not_hold_the_job(tmp_path: Path) -> None:
    ran = await run(tmp_path, ["sh", "-c", "echo done; sleep 60 & echo $!"])
    assert ran.ending.outcome is CommandOutcome.COMPLETED
    assert ran.seconds < 4
    background = int(ran.text().split()[1])
    assert is_alive(background)
    os.kill(background, 9)
