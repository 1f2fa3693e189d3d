"""`jtnt` as a program at a terminal: what it asks, what it shows of hostile output, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from protocol.enumerations import CommandOutcome, CommandReason
from protocol.frames import CommandCancel
from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.machine import Identity, greeted
from tests.integration.operated import OUT, begin, finish, joined, write

PROGRAM: Final = str(Path(sys.executable).parent / "jtnt")


class Terminal:
    """A program with a terminal of its own. `seen`: all that it has shown."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen = ""
        self._master = master
        self._shown = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    async def until(self, words: str) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while words not in self.seen:
                self._shown.clear()
                await self._shown.wait()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def press_ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def echoes(self) -> bool:
        local_flags: int = termios.tcgetattr(self._master)[3]
        return bool(local_flags & termios.ECHO)

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program has closed its side
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.seen += data.decode(errors="replace")
        self._shown.set()


@asynccontextmanager
async def terminal(home: Path, *arguments: str) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *arguments,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "XDG_CONFIG_HOME": str(home)},
    )
    os.close(slave)
    shown = Terminal(master, process)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)


@pytest.fixture(scope="module")
async def home(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a person has signed in at a terminal, without an option."""
    folder = tmp_path_factory.mktemp("home")
    async with terminal(folder, "login", hub.web_url) as shown:
        await shown.until("User name: ")
        shown.type(f"{ADMINISTRATOR}\n")
        await shown.until("Password: ")
        shown.type(f"{PASSWORD}\n")
        assert await shown.ended() == 0
        await shown.until(f"Signed in to {hub.web_url} as {ADMINISTRATOR}.")
        assert PASSWORD not in shown.seen
    return folder


@pytest.fixture
async def machine(hub: RunningHub, tmp_path: Path) -> Identity:
    """One that nobody else orders anything of: the first order it gets is the test's."""
    return await joined(hub, tmp_path, "operated")


@pytest.mark.parametrize(
    ("arguments", "question", "number"),
    [
        (("login", "http://127.0.0.1:1", "--username", "ada"), "Password: ", signal.SIGINT),
        (("keys", "make"), "New passphrase of the key: ", signal.SIGINT),
        (("keys", "make"), "New passphrase of the key: ", signal.SIGTERM),
    ],
)
async def test_a_signal_leaves_a_question_at_once_and_the_terminal_shows_again_what_is_typed(
    tmp_path: Path, arguments: tuple[str, ...], question: str, number: signal.Signals
) -> None:
    async with terminal(tmp_path, *arguments) as shown:
        await shown.until(question)
        shown.process.send_signal(number)
        assert await shown.ended() == 130
        await shown.until("jtnt: left before it was done")
        assert shown.echoes()
        assert "Traceback" not in shown.seen


async def test_hostile_output_is_shown_and_not_obeyed(hub: RunningHub, machine: Identity, home: Path) -> None:
    async with greeted(hub, machine) as agent, terminal(home, "run", machine.agent_id, "--", "cat") as shown:
        command_id = await begin(agent)
        await write(agent, command_id, OUT, 0, "\x1b]0;owned\x07\u202etxt\n")
        await shown.until("\\x1b]0;owned\\x07\\u202etxt\r\n")
        await finish(agent, command_id)
        assert await shown.ended() == 0
    assert "\x1b" not in shown.seen


async def test_ctrl_c_cancels_and_waits_for_the_end(hub: RunningHub, machine: Identity, home: Path) -> None:
    async with greeted(hub, machine) as agent, terminal(home, "run", machine.agent_id, "--", "sleep") as shown:
        command_id = await begin(agent)
        await write(agent, command_id, OUT, 0, "begun\n")
        await shown.until("begun")
        shown.press_ctrl_c()
        assert (await agent.take(CommandCancel)).command_id == command_id
        await write(agent, command_id, OUT, 6, "ending\n")
        await finish(agent, command_id, CommandOutcome.CANCELLED, None, CommandReason.CANCELLED_BY_PERSON)
        assert await shown.ended() == 130
        await shown.until("it was cancelled")
        assert "ending" in shown.seen


async def test_a_second_ctrl_c_leaves_the_job_and_says_where_it_is(
    hub: RunningHub, machine: Identity, home: Path
) -> None:
    async with greeted(hub, machine) as agent:
        async with terminal(home, "run", machine.agent_id, "--", "sleep") as shown:
            command_id = await begin(agent)
            await write(agent, command_id, OUT, 0, "begun\n")
            await shown.until("begun")
            shown.press_ctrl_c()
            await agent.take(CommandCancel)
            shown.press_ctrl_c()
            assert await shown.ended() == 130
            await shown.until(f"jtnt watch {command_id}")
        async with terminal(home, "watch", command_id) as shown:
            await shown.until("begun")
            await finish(agent, command_id)
            assert await shown.ended() == 0


async def test_ctrl_c_leaves_a_job_that_is_only_watched(hub: RunningHub, machine: Identity, home: Path) -> None:
    async with greeted(hub, machine) as agent:
        async with terminal(home, "run", machine.agent_id, "--no-wait", "--", "sleep") as shown:
            command_id = await begin(agent)
            assert await shown.ended() == 0
        async with terminal(home, "watch", command_id) as shown:
            await write(agent, command_id, OUT, 0, "begun\n")
            await shown.until("begun")
            shown.press_ctrl_c()
            assert await shown.ended() == 130
            await shown.until("left as it is")
        async with terminal(home, "job", command_id) as shown:
            assert await shown.ended() == 0
            await shown.until("Output")
            assert "EXECUTING" in shown.seen
            assert "asked to end" not in shown.seen
        await finish(agent, command_id)


async def test_a_reader_that_goes_ends_the_program_and_not_the_job(
    hub: RunningHub, machine: Identity, home: Path
) -> None:
    read_end, write_end = os.pipe()
    async with greeted(hub, machine) as agent, asyncio.timeout(DEADLINE_SECONDS):
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *("run", machine.agent_id, "--", "yes"),
            stdout=write_end,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "XDG_CONFIG_HOME": str(home)},
        )
        os.close(write_end)
        command_id = await begin(agent)
        os.close(read_end)
        await write(agent, command_id, OUT, 0, "y\n")
        _, said = await process.communicate()
        assert (process.returncode, f"jtnt watch {command_id}".encode() in said) == (1, True)
        assert said.count(b"\n") == 1
        await finish(agent, command_id)
