"""`up` as a process: the hub, this machine's agent, and what it writes down for others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from tests.integration.person import Person, watching_at
from tests.servers.postgres import free_port
from tests.system.programs import POLL_SECONDS, QUICK, ROOT, RealAgent, all_gone, ended, kill

READY_DEADLINE_SECONDS: Final = 120.0
UP: Final = (sys.executable, "-m", "scripts.up")


class Demo:
    """One data folder and two ports. `start` and `stop` may alternate."""

    def __init__(
        self,
        folder: Path,
        *,
        up: tuple[str, ...] = UP,
        cwd: Path = ROOT,
        deadline_seconds: float = READY_DEADLINE_SECONDS,
        **variables: str,
    ) -> None:
        self.folder = folder
        self._deadline_seconds = deadline_seconds
        self.web_port, self.agent_port = free_port(), free_port()
        self.live_after_seconds = float("inf")
        self._up = up
        self._cwd = cwd
        self._variables = variables
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.web_port}"

    @property
    def socket_url(self) -> str:
        return f"wss://localhost:{self.agent_port}/ws/agents"

    @property
    def database(self) -> Path:
        return self.folder / "hub.db"

    @property
    def hub_pid(self) -> int:
        return int((self.folder / "hub.lock").read_text())

    @property
    def agent(self) -> RealAgent:
        return RealAgent(self.folder / "agent")

    @property
    def written(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "demo.json").read_bytes())
        return found

    @property
    def arguments(self) -> tuple[str, ...]:
        ports = ("--web-port", str(self.web_port), "--agent-port", str(self.agent_port))
        return (*self._up, *ports, "--data-dir", str(self.folder))

    @property
    def pids(self) -> list[int]:
        """Return every process that belongs to this demo."""
        assert self._process is not None
        up = psutil.Process(self._process.pid)
        return [up.pid, *(child.pid for child in up.children(recursive=True))]

    async def start(self, *, live: bool = True) -> None:
        """Return once all is told and, if `live`, somebody saw values: `live_after_seconds` after the hub took work."""
        before = (self.folder / "demo.json").stat().st_mtime_ns if (self.folder / "demo.json").exists() else 0
        self._process = await asyncio.create_subprocess_exec(
            *self.arguments,
            cwd=self._cwd,
            env={**os.environ, **self._variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        await self.until_ready(self._deadline_seconds)
        if live:
            await self._until_live(asyncio.get_running_loop().time())
        async with asyncio.timeout(READY_DEADLINE_SECONDS):
            while not (self.folder / "demo.json").exists() or not self._is_told(before):
                assert self._process.returncode is None, await self.said()
                await asyncio.sleep(POLL_SECONDS)

    async def _until_live(self, listening_at: float) -> None:
        async with self.watching(await self.sign_in()) as person:
            await person.take("agent:metrics", deadline_seconds=READY_DEADLINE_SECONDS)
        self.live_after_seconds = asyncio.get_running_loop().time() - listening_at

    def _is_told(self, before_ns: int) -> bool:
        path = self.folder / "demo.json"
        return path.stat().st_mtime_ns > before_ns and "joinString" in self.written

    async def until_ready(self, deadline_seconds: float = READY_DEADLINE_SECONDS) -> None:
        """Return once the hub takes work."""
        async with asyncio.timeout(deadline_seconds), aiohttp.ClientSession() as session:
            while True:
                assert self._process is not None
                assert self._process.returncode is None, await self.said()
                try:
                    async with session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(POLL_SECONDS)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Order the end and return `up`'s exit code once all its processes are gone."""
        assert self._process is not None
        pids = self.pids
        self._process.send_signal(number)
        await all_gone(pids)
        return await self._process.wait()

    async def said(self) -> str:
        """Return what `up` printed, once it has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        return (await self._process.stdout.read()).decode()

    async def close(self) -> None:
        """End everything, in whatever state it is."""
        if self._process is None or self._process.returncode is not None:
            return
        try:
            await self.stop()
        finally:
            await ended(self._process)

    def quicken(self) -> None:
        """Let this machine's agent come back within a second, not within half a minute."""
        self.agent.configure(**QUICK)
        os.kill(self.agent.pid, signal.SIGHUP)

    async def sign_in(self) -> str:
        body = {key: self.written[key] for key in ("username", "password")}
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.post("/api/v1/auth/sign-in", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()
            token: str = (await answer.json())["accessToken"]
            return token

    @asynccontextmanager
    async def watching(self, token: str) -> AsyncIterator[Person]:
        async with watching_at(self.url, token) as person:
            yield person

    async def kill_hub(self) -> None:
        """Kill the hub with -9 and return once its successor takes work."""
        killed = self.hub_pid
        kill(killed)
        await all_gone([killed])
        await self.until_ready()


@asynccontextmanager
async def running_demo(folder: Path, **options: Any) -> AsyncIterator[Demo]:
    demo = Demo(folder, **options)
    try:
        await demo.start()
        yield demo
    finally:
        await demo.close()
