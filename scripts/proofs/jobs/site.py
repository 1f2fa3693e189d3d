"""A hub and agents as processes that proofs kill and start again, and a person who asks until there is an answer."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
from socketio.exceptions import SocketIOError

from scripts.measures.hub import Hub
from tests.integration.person import Json, Person, watching_at
from tests.system.programs import QUICK, RealAgent, all_gone, kill

HUB: Final = {
    "JTNT_LIMITS__CONNECTIONS": "100000",
    "JTNT_LIMITS__CONNECTIONS_PER_ADDRESS": "100000",
    "JTNT_ACCESS__OPERATIONS_PER_SECOND": "10000",
    "JTNT_ACCESS__OPERATIONS_AT_ONCE": "100000",
}
"""Everybody calls from one address here."""
QUIET: Final = {"inventoryEnabled": False, "securityChecksEnabled": False}
ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
ANSWER_DEADLINE_SECONDS: Final = 60.0
END_DEADLINE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.05


class Site:
    """One hub, some agents, one person's connection."""

    def __init__(self, hub: Hub, agents: Sequence[RealAgent], folder: Path) -> None:
        self.hub = hub
        self.agents = agents
        self.folder = folder
        self._token = ""
        self._connection: AsyncExitStack | None = None
        self._person: Person | None = None

    @property
    def agent(self) -> RealAgent:
        return self.agents[0]

    @property
    def database_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.hub.folder / 'hub.db'}"

    # What a person asks.

    async def do(self, operation: str, **fields: Any) -> Json:
        """Return the answer; ask again while the hub is away. Raises AssertionError when it refuses."""
        async with asyncio.timeout(ANSWER_DEADLINE_SECONDS):
            while True:
                try:
                    return await _unless_gone(await self.person(), operation, fields)
                except (SocketIOError, aiohttp.ClientError, OSError):
                    await self.hang_up()
                    await asyncio.sleep(LOOK_SECONDS)

    async def person(self) -> Person:
        """Return the connection; one more attempt of it is the caller's."""
        if self._person is None:
            self._token = self._token or await self.hub.access_token()
            stack = AsyncExitStack()
            self._person = await stack.enter_async_context(watching_at(self.hub.web_url, self._token))
            self._connection = stack
        return self._person

    async def hang_up(self) -> None:
        connection, self._connection, self._person = self._connection, None, None
        if connection is not None:
            await connection.aclose()

    async def order(self, *argv: str, agent: RealAgent | None = None, **fields: Any) -> str:
        """Return the id of a new command."""
        fields = {"idempotencyKey": str(uuid.uuid4()), **fields}
        agent_id = (agent or self.agent).agent_id
        created = await self.do("commands:create", agentId=agent_id, commandData={"argv": list(argv)}, **fields)
        return str(created["command"]["id"])

    async def command(self, command_id: str) -> Json:
        found: Json = (await self.do("commands:get", commandId=command_id))["command"]
        return found

    async def reached(
        self, command_id: str, statuses: frozenset[str] = ENDED, deadline_seconds: float = END_DEADLINE_SECONDS
    ) -> Json:
        """Return the command once it is in one of `statuses`. Raises AssertionError when it does not get there."""
        ends = time.monotonic() + deadline_seconds
        while (found := await self.command(command_id))["status"] not in statuses:
            assert time.monotonic() < ends, f"not {sorted(statuses)} within {deadline_seconds:g} s: {found}"
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def output(self, command_id: str, stream: str = "stdout") -> bytes:
        """Return all that is stored."""
        data, offset = b"", 0
        while True:
            page = await self.do("commands:output", commandId=command_id, stream=stream, offset=offset)
            data += base64.b64decode(page["data"]) if page["encoding"] == "base64" else page["data"].encode()
            if page["complete"] or page["nextOffset"] == offset:
                return data
            offset = page["nextOffset"]

    async def listed(self, agent: RealAgent | None = None) -> list[Json]:
        found: list[Json] = (await self.do("commands:list", agentId=(agent or self.agent).agent_id, limit=100))[
            "commands"
        ]
        return found

    async def connected(self, agent: RealAgent | None = None) -> None:
        """Return once the hub has a session of the agent."""
        agent_id = (agent or self.agent).agent_id
        async with asyncio.timeout(END_DEADLINE_SECONDS):
            while True:
                agents = (await self.do("agents:list", limit=1000))["agents"]
                if any(found["id"] == agent_id and found["status"] == "ACTIVE" for found in agents):
                    return
                await asyncio.sleep(LOOK_SECONDS)

    # What happens to processes.

    async def kill_hub(self) -> None:
        """Kill the hub with -9 and start it again."""
        await self.hub.kill()
        await self.revive_hub()

    async def revive_hub(self) -> None:
        await self.hang_up()
        await self.hub.start()

    async def kill_agent(self, agent: RealAgent | None = None) -> None:
        """Kill the daemon with -9; it stays down."""
        pid = (agent or self.agent).pid
        kill(pid)
        await all_gone([pid])

    async def revive_agent(self, agent: RealAgent | None = None) -> None:
        await (agent or self.agent).start()

    def runs(self, name: str) -> int:
        """Return how often the job that marks its runs under `name` has run."""
        path = self.mark(name)
        return len(path.read_text().splitlines()) if path.exists() else 0

    def mark(self, name: str) -> Path:
        return self.folder / "runs" / name


async def _unless_gone(person: Person, operation: str, fields: Mapping[str, Any]) -> Json:
    """Return the answer. Raises ConnectionError as soon as the hub is gone: its client waits for an answer still."""
    asked = asyncio.create_task(person.do(operation, **fields))
    gone = asyncio.create_task(person.gone.wait())
    try:
        await asyncio.wait([asked, gone], return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ConnectionError("the hub is gone")
        return asked.result()
    finally:
        asked.cancel()
        gone.cancel()


def marking(site: Site, name: str, then: str = "") -> list[str]:
    """Return the argv of a job that notes its run under `name`, and then does something in the shell."""
    return ["sh", "-c", f'echo "$$" >> "$1"; {then or ":"}', "sh", str(site.mark(name))]


def process_of_jobs(agent: RealAgent) -> int:
    """Return the process that runs the agent's jobs: its executor where there is one, else the daemon."""
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        words = process.info["cmdline"] or []
        if str(agent.folder) in words and any("execut" in word for word in words) and process.pid != os.getpid():
            return process.pid
    return agent.pid


@asynccontextmanager
async def job_site(agents: int = 1, variables: Mapping[str, str] | None = None) -> AsyncIterator[Site]:
    """Start a hub and `agents` real agents; yield once the hub has a session of each."""
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-jobs-") as name:
        folder = Path(name)
        (folder / "runs").mkdir()
        hub = Hub(folder / "hub", {**HUB, **(variables or {})})
        await hub.start()
        crew = [RealAgent(folder / f"agent-{number}") for number in range(agents)]
        site = Site(hub, crew, folder)
        try:
            await hub.create_administrator()
            join_string = await hub.join_string(uses=max(agents, 1))
            for agent in crew:
                outcome = await agent.enroll(join_string)
                assert outcome.code == 0, outcome.complained
                agent.configure(**QUICK)
                await agent.start()
            for agent in crew:
                await site.connected(agent)
                await site.do("agents:update", agentId=agent.agent_id, config=QUIET)
            yield site
        finally:
            await site.hang_up()
            for agent in crew:
                await agent.stop()
            await hub.stop()
