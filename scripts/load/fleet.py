"""Many simulated agents in one process: connected at a bounded rate, then speaking in turns, evenly over time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from protocol.frames import Welcome
from scripts.load.agent import SimulatedAgent, address_of
from scripts.load.identities import ANCHORS, SERVER_NAME, identity_context
from scripts.load.orders import Connect, Ready
from scripts.load.tally import Tally
from scripts.load.websocket import ClientSocket

CONNECT_DEADLINE_SECONDS: Final = 30.0


@asynccontextmanager
async def connected_fleet(plan: Connect, tally: Tally) -> AsyncIterator[Ready]:
    """Connect the agents of `plan`; they speak until the end of the block, then drop their connections."""
    started_at = time.perf_counter()
    agents, sockets = await connect_all(plan, tally)
    ready = Ready(done=tally.connected, took_seconds=time.perf_counter() - started_at, problems=dict(tally.problems))
    async with asyncio.TaskGroup() as tasks:
        habits = [] if plan.silent or not agents else habits_of(plan, agents[0])
        running = [tasks.create_task(take_turns(agents, habit, tally)) for habit in habits]
        try:
            yield ready
        finally:
            for task in running:
                task.cancel()
            for socket in sockets:
                socket.abort()


async def connect_all(plan: Connect, tally: Tally) -> tuple[list[SimulatedAgent], list[ClientSocket]]:
    """Return the agents that got through, with their sockets; the others are in the tally's problems."""
    folder = Path(plan.folder)
    anchors = (folder / ANCHORS).read_text()
    agents: list[SimulatedAgent] = []
    sockets: list[ClientSocket] = []
    numbers = iter(range(plan.first, plan.first + plan.count))
    started_at = time.perf_counter()

    async def connect_some() -> None:
        for number in numbers:
            due = started_at + (number - plan.first) / plan.per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            agent = SimulatedAgent(number, tally, silent=plan.silent)
            try:
                async with asyncio.timeout(CONNECT_DEADLINE_SECONDS):
                    sockets.append(await open_socket(agent, folder, anchors, number, plan.port))
                    await agent.welcome
            except (OSError, TimeoutError) as error:
                tally.problems[f"not connected: {type(error).__name__}: {error}"] += 1
                continue
            agents.append(agent)

    async with asyncio.TaskGroup() as tasks:
        for index in range(plan.at_once):
            tasks.create_task(connect_some(), name=f"connect-{index}")
    return agents, sockets


async def open_socket(agent: SimulatedAgent, folder: Path, anchors: str, number: int, port: int) -> ClientSocket:
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: ClientSocket(agent),
        "127.0.0.1",
        port,
        ssl=identity_context(folder, anchors, number),
        server_hostname=SERVER_NAME,
        local_addr=(address_of(number), 0),
    )
    return socket


class Habit(NamedTuple):
    """What every agent does once in `round_seconds`."""

    act: Callable[[SimulatedAgent], None]
    round_seconds: float


def habits_of(plan: Connect, agent: SimulatedAgent) -> Sequence[Habit]:
    """Return what the hub's `welcome` asks of its agents; `plan` may set the samples' interval instead."""
    welcome = agent.welcome.result()
    assert isinstance(welcome, Welcome)
    return (
        Habit(SimulatedAgent.sample, plan.sample_seconds or float(welcome.sample_interval_sec)),
        Habit(SimulatedAgent.heartbeat, float(welcome.next_heartbeat_sec)),
    )


async def take_turns(agents: Sequence[SimulatedAgent], habit: Habit, tally: Tally) -> None:
    """Let each agent act once a round, all evenly spread over it. Ends by cancellation."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    gap_seconds = habit.round_seconds / len(agents)
    for turn in itertools.count():
        due = started_at + turn * gap_seconds
        await asyncio.sleep(max(0.0, due - loop.time()))
        tally.slips_ms.append(max(0.0, loop.time() - due) * 1000)
        habit.act(agents[turn % len(agents)])
