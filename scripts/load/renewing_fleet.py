"""Renewing agents in this process: enrolled, connected, and alive until the block ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from hub_server.bench.agent import address_of
from hub_server.bench.identities import ANCHORS, SERVER_NAME, NoIdentity, enroll_all, identity_context
from hub_server.bench.orders import Enroll
from hub_server.bench.websocket import ClientSocket
from scripts.load.renewing import Line, RenewingAgent, Seen

AT_ONCE: Final = 16


@asynccontextmanager
async def renewing_fleet(
    join_string: str, port: int, folder: Path, count: int, seen: Seen
) -> AsyncIterator[list[RenewingAgent]]:
    """Raises NoIdentity, OSError, TimeoutError."""
    plan = Enroll(join_string=join_string, folder=str(folder), first=0, count=count, at_once=AT_ONCE)
    if problems := await enroll_all(plan):
        raise NoIdentity(f"not all agents were enrolled: {dict(problems)}")
    anchors = (folder / ANCHORS).read_text()

    async def dial(line: Line, number: int) -> ClientSocket:
        _, socket = await asyncio.get_running_loop().create_connection(
            lambda: ClientSocket(line),
            "127.0.0.1",
            port,
            ssl=identity_context(folder, anchors, number),
            server_hostname=SERVER_NAME,
            local_addr=(address_of(number), 0),
        )
        return socket

    agents = [RenewingAgent(number, folder=folder, root_pem=anchors, dial=dial, seen=seen) for number in range(count)]
    await _connect(agents)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(agent.run(), name=f"agent-{agent.number}") for agent in agents]
        try:
            yield agents
        finally:
            for task in running:
                task.cancel()
            for agent in agents:
                agent.leave()


async def _connect(agents: list[RenewingAgent]) -> None:
    waiting = iter(agents)

    async def connect_some() -> None:
        for agent in waiting:
            await agent.connect()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(connect_some())
