"""Many simulated agents in one process: connected at a bounded rate, then speaking in turns, evenly over time."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from hub_server.bench.agent import NO_PRESSURE, SimulatedAgent, address_of
from hub_server.bench.identities import ANCHORS, SERVER_NAME, identity_context
from hub_server.bench.orders import Connect, Knock, Ready, Rested, Return
from hub_server.bench.tally import Tally
from hub_server.bench.websocket import ClientSocket
from protocol.frames import Welcome

T = TypeVar("T")
CONNECT_DEADLINE_SECONDS: Final = 30.0
REST_LOOKS: Final = 400
REST_LOOK_SECONDS: Final = 0.05
TURNS_PER_WAKING: Final = 64
"""How many late turns are taken before the loop may read again."""


class Fleet:
    """The agents that got through, with what connects them again."""

    def __init__(self, plan: Connect, tally: Tally) -> None:
        self._plan = plan
        self._tally = tally
        self._folder = Path(plan.folder)
        self._anchors = (self._folder / ANCHORS).read_text()
        self._sockets: dict[int, ClientSocket] = {}
        self._contexts: dict[int, ssl.SSLContext] = {}
        self.agents: list[SimulatedAgent] = []
        self.is_resting = False

    async def connect(self) -> None:
        """Connect all agents of the plan; those that did not get through are in the tally's problems."""
        started_at = time.perf_counter()
        agents = [self._new_agent(self._plan.first + index) for index in range(self._plan.count)]

        async def in_turn(agent: SimulatedAgent) -> None:
            due = started_at + (agent.number - self._plan.first) / self._plan.per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._open(agent)

        await at_once(self._plan.at_once, agents, in_turn)
        self.agents = [agent for agent in agents if agent.is_connected]

    async def back(self, order: Return) -> Ready:
        """Connect those who lost their connection, and return how many of all are connected then."""
        self._tally.problems.clear()
        lost = [agent for agent in self.agents if not agent.is_connected]
        started_at = time.perf_counter()
        await at_once(order.at_once, lost, self._open)
        took_seconds = time.perf_counter() - started_at
        return Ready(done=self._tally.connected, took_seconds=took_seconds, problems=dict(self._tally.problems))

    async def rest(self) -> Rested:
        """Stop sampling and wait until nothing is on its way, at most REST_LOOKS times REST_LOOK_SECONDS."""
        self.is_resting = True
        for _ in range(REST_LOOKS):
            if not any(agent.is_waiting for agent in self.agents):
                break
            await asyncio.sleep(REST_LOOK_SECONDS)
        return Rested(sent_samples=self._tally.sent_samples, acknowledged_samples=self._tally.acknowledged_samples)

    def drop(self) -> None:
        for socket in self._sockets.values():
            socket.abort()

    async def _open(self, agent: SimulatedAgent) -> None:
        context = self._contexts.get(agent.number) or self._context(agent)
        if self._plan.returns:
            self._contexts[agent.number] = context
        agent.begin_anew()
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_SECONDS):
                self._sockets[agent.number] = await open_socket(agent, context, self._plan.port)
                await agent.welcome
        except (OSError, TimeoutError) as error:
            self._tally.problems[f"not connected: {type(error).__name__}: {error}"] += 1

    def _context(self, agent: SimulatedAgent) -> ssl.SSLContext:
        return identity_context(self._folder, self._anchors, agent.number)

    def _new_agent(self, number: int) -> SimulatedAgent:
        return SimulatedAgent(
            number,
            self._tally,
            silent=self._plan.silent,
            values=self._plan.values,
            pressure=self._plan.pressure or NO_PRESSURE,
            metric_types=self._plan.metric_types,
            alarm_samples=self._plan.alarm_samples if number < self._plan.alarmed else 0,
        )


@asynccontextmanager
async def connected_fleet(fleet: Fleet, plan: Connect, tally: Tally) -> AsyncIterator[Ready]:
    """Connect the agents of `plan`; they speak until the end of the block, then drop their connections."""
    started_at = time.perf_counter()
    await fleet.connect()
    took_seconds = time.perf_counter() - started_at
    ready = Ready(done=tally.connected, took_seconds=took_seconds, problems=dict(tally.problems))
    async with asyncio.TaskGroup() as tasks:
        habits = [] if plan.silent or not fleet.agents else habits_of(plan, fleet.agents[0])
        running = [
            tasks.create_task(take_turns(fleet, habit, tally), name=f"habit-{index}")
            for index, habit in enumerate(habits)
        ]
        try:
            yield ready
        finally:
            for task in running:
                task.cancel()
            fleet.drop()


@asynccontextmanager
async def knocked(plan: Knock, tally: Tally) -> AsyncIterator[Ready]:
    """Do the handshakes of `plan`; what they need is read before the clock runs."""
    folder = Path(plan.folder)
    anchors = (folder / ANCHORS).read_text()
    numbers = range(plan.first, plan.first + plan.count)
    contexts = {number: identity_context(folder, anchors, number) for number in numbers}
    done = 0

    async def knock(number: int) -> None:
        nonlocal done
        agent = SimulatedAgent(number, tally, silent=True)
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_SECONDS):
                socket = await open_socket(agent, contexts[number], plan.port)
                await agent.welcome
        except (OSError, TimeoutError) as error:
            tally.problems[f"not connected: {type(error).__name__}: {error}"] += 1
            return
        done += 1
        socket.abort()

    started_at = time.perf_counter()
    await at_once(plan.at_once, numbers, knock)
    yield Ready(done=done, took_seconds=time.perf_counter() - started_at, problems=dict(tally.problems))


async def at_once(count: int, things: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Do `act` on each of `things`, `count` of them at a time."""
    waiting = iter(things)

    async def some() -> None:
        for thing in waiting:
            await act(thing)

    async with asyncio.TaskGroup() as tasks:
        for index in range(count):
            tasks.create_task(some(), name=f"at-once-{index}")


async def open_socket(agent: SimulatedAgent, context: ssl.SSLContext, port: int) -> ClientSocket:
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: ClientSocket(agent),
        "127.0.0.1",
        port,
        ssl=context,
        server_hostname=SERVER_NAME,
        local_addr=(address_of(agent.number), 0),
    )
    return socket


class Habit(NamedTuple):
    """What every agent does once in `round_seconds`."""

    act: Callable[[SimulatedAgent], None]
    round_seconds: float
    is_life: bool = False
    """A sign of life goes on while the fleet rests."""


def habits_of(plan: Connect, agent: SimulatedAgent) -> Sequence[Habit]:
    """Return what the hub's `welcome` asks of its agents; `plan` may set the samples' interval or a pressure."""
    welcome = agent.welcome.result()
    assert isinstance(welcome, Welcome)
    heartbeat = Habit(SimulatedAgent.heartbeat, float(welcome.next_heartbeat_sec), is_life=True)
    if plan.pressure is not None:
        return (Habit(SimulatedAgent.press, 1 / plan.pressure.frames_per_second), heartbeat)
    return (Habit(SimulatedAgent.sample, plan.sample_seconds or float(welcome.sample_interval_sec)), heartbeat)


async def take_turns(fleet: Fleet, habit: Habit, tally: Tally) -> None:
    """Let each agent act once a round, all evenly spread over it. Ends by cancellation."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    agents = fleet.agents
    gap_seconds = habit.round_seconds / len(agents)
    for turn in itertools.count():
        due = started_at + turn * gap_seconds
        if due > loop.time() or not turn % TURNS_PER_WAKING:
            await asyncio.sleep(max(0.0, due - loop.time()))
            tally.slips_ms.append(max(0.0, loop.time() - due) * 1000)
        if habit.is_life or not fleet.is_resting:
            habit.act(agents[turn % len(agents)])
