"""The product's own programs as processes, as a person starts them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
STEP_DEADLINE_SECONDS: Final = 60.0
STOP_DEADLINE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
QUICK: Final[Mapping[str, float]] = {
    "first_retry_spread_seconds": 0.2,
    "backoff_initial_seconds": 0.2,
    "backoff_max_seconds": 0.5,
    "slow_lane_seconds": 0.5,
    "kill_grace_seconds": 0.5,
}
"""Keys of an agent's `config.json` with which its retries fit into a test."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended and what it printed."""

    code: int
    said: str
    complained: str


def program(name: str) -> str:
    """Return the path of one of the project's programs."""
    return str(Path(sys.executable).parent / name)


async def outcome_of(*command: str, deadline_seconds: float = STEP_DEADLINE_SECONDS, **variables: str) -> Outcome:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(deadline_seconds):
            said, complained = await process.communicate()
    finally:
        await ended(process)
    assert process.returncode is not None
    return Outcome(process.returncode, said.decode(), complained.decode())


async def ended(process: asyncio.subprocess.Process) -> None:
    """Kill `process` unless it has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


async def all_gone(pids: Iterable[int], deadline_seconds: float = STOP_DEADLINE_SECONDS) -> None:
    """Return once none of these processes lives. Raises TimeoutError."""
    async with asyncio.timeout(deadline_seconds):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110  no event tells of what is not our child
            await asyncio.sleep(POLL_SECONDS)


class RealAgent:
    """An agent on this machine, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemon: asyncio.subprocess.Process | None = None

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "config.json").read_bytes())
        return found

    @property
    def agent_id(self) -> str:
        return str(self.config["agent_id"])

    @property
    def spool(self) -> Path:
        return self.folder / "spool.db"

    @property
    def pid(self) -> int:
        """Return the daemon's process, as it wrote it down itself."""
        return int((self.folder / "agentd.lock").read_text())

    async def enroll(self, *invitation: str) -> Outcome:
        return await outcome_of(program("jtnt-agent"), "enroll", *invitation, "--data-dir", str(self.folder))

    def configure(self, **keys: Any) -> None:
        """Change keys of `config.json`, as a person would."""
        path = self.folder / "config.json"
        partial = path.with_suffix(".edited")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps({**self.config, **keys}))
        partial.replace(path)

    async def start(self) -> None:
        with (self.folder / "agentd.log").open("ab") as log:
            self._daemon = await asyncio.create_subprocess_exec(
                program("jtnt-agentd"), "--data-dir", str(self.folder), stdin=asyncio.subprocess.DEVNULL, stdout=log
            )

    async def stop(self) -> None:
        """End the daemon in its own order."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        try:
            if daemon.returncode is None:
                daemon.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_DEADLINE_SECONDS):
                await daemon.wait()
        finally:
            await ended(daemon)


@asynccontextmanager
async def enrolled(folder: Path, join_string: str) -> AsyncIterator[RealAgent]:
    """An agent that has joined and is not started; it ends with the block."""
    agent = RealAgent(folder)
    outcome = await agent.enroll(join_string)
    assert outcome.code == 0, outcome.complained
    agent.configure(**QUICK)
    try:
        yield agent
    finally:
        await agent.stop()
