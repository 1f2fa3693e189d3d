"""The demo as people start it: `up` as a process of its own, on free ports, in a folder of the test's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import socketio

ROOT: Final = Path(__file__).resolve().parents[1]
READY_DEADLINE_SECONDS: Final = 90.0
STOP_DEADLINE_SECONDS: Final = 40.0
POLL_SECONDS: Final = 0.05
FAST_RETURN: Final = {"first_retry_spread_seconds": 0.2, "backoff_initial_seconds": 0.5, "backoff_max_seconds": 1.0}
"""Keys of an agent's config.json with which it comes back at once instead of within half a minute."""


class Demo:
    """One `up`. `start` and `stop` may alternate on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with ExitStack() as held:
            self.web_port, self.agent_port = (_free_port(held) for _ in range(2))
        self._process: subprocess.Popen[str] | None = None
        self.said: list[str] = []

    @property
    def facts(self) -> dict[str, Any]:
        """Return demo.json as it stands."""
        facts: dict[str, Any] = json.loads((self.folder / "demo.json").read_bytes())
        return facts

    @property
    def agent_folder(self) -> Path:
        return self.folder / "agent"

    def start(self, *options: str) -> None:
        """Return once everything runs. Raises AssertionError with what `up` said when it ends instead."""
        self._process = subprocess.Popen(
            up_command(self.folder, self.web_port, self.agent_port, *options),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        deadline = time.monotonic() + READY_DEADLINE_SECONDS
        while not any("Ctrl-C stops everything" in line for line in self.said):
            assert self._process.poll() is None, f"up ended: {''.join(self._hear())}"
            assert time.monotonic() < deadline, f"up was not ready: {''.join(self.said)}"
            self._hear()
            time.sleep(POLL_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Return the exit code of `up` after a signal, as Ctrl-C sends it."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(STOP_DEADLINE_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code

    def pids(self, program: str) -> list[int]:
        """Return the processes of one of the project's programs that work for this demo."""
        return [pid for pid, argv in _processes() if program in argv and self._owns(pid, argv)]

    def kill(self, program: str) -> None:
        """Kill -9 the one process of `program`."""
        [pid] = self.pids(program)
        os.kill(pid, signal.SIGKILL)

    def hurry_agent(self) -> None:
        """Let the enrolled agent come back fast; read at its next start."""
        path = self.agent_folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **FAST_RETURN}))

    def _owns(self, pid: int, argv: str) -> bool:
        if str(self.folder) in argv:
            return True
        try:
            return f"JTNT_DATA_DIR={self.folder}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    def _hear(self) -> list[str]:
        assert self._process is not None
        assert self._process.stdout is not None
        self.said += self._process.stdout.readlines()
        return self.said


@asynccontextmanager
async def person(demo: Demo) -> AsyncIterator[Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]]:
    """Sign in as the demo's administrator; yields `ask(operation, request)`, which fails on a refusal."""
    facts = demo.facts
    async with aiohttp.ClientSession() as session:
        body = {"username": facts["username"], "password": facts["password"]}
        async with session.post(f"{facts['dashboardUrl']}/api/v1/auth/sign-in", json=body) as answer:
            token = (await answer.json())["accessToken"]
        client = socketio.AsyncClient(http_session=session, reconnection=False)
        await client.connect(
            facts["dashboardUrl"], socketio_path="/ws/agents", auth={"token": token}, transports=["websocket"]
        )

        async def ask(operation: str, request: dict[str, Any]) -> dict[str, Any]:
            reply: dict[str, Any] = await client.call(operation, request, timeout=10)
            assert reply["ok"], reply
            return reply

        try:
            yield ask
        finally:
            await client.disconnect()


def up_command(folder: Path, web_port: int, agent_port: int, *options: str) -> list[str]:
    ports = ["--web-port", str(web_port), "--agent-port", str(agent_port)]
    return [sys.executable, "-m", "scripts.up", "--data-dir", str(folder), *ports, *options]


async def run_program(name: str, *arguments: str) -> tuple[int, str]:
    """Run one of the project's own programs to its end; return its exit code and all it said."""
    process = await asyncio.create_subprocess_exec(
        program(name), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(STOP_DEADLINE_SECONDS):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@asynccontextmanager
async def running_program(name: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one of the project's own programs until the block ends, then end it with SIGTERM."""
    process = await asyncio.create_subprocess_exec(program(name), *arguments, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_DEADLINE_SECONDS):
            await process.wait()


def program(name: str) -> str:
    """Return the path of one of the project's own programs."""
    return str(Path(sys.executable).parent / name)


def _free_port(held: ExitStack) -> int:
    probe = held.enter_context(socket.socket())
    probe.bind(("127.0.0.1", 0))
    port: int = probe.getsockname()[1]
    return port


def _processes() -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if argv:
                found.append((int(entry.name), argv))
    return found
