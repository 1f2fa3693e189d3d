"""A thousand agents, and a hub that is restarted, frozen, or whose clock moves: nobody is called offline."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

import aiohttp
from socketio.exceptions import SocketIOError

from hub_server.bench.muster import connected, enroll
from hub_server.bench.orders import Connect, Return
from hub_server.bench.processes import own_module
from hub_server.bench.workers import Workers
from protocol.limits import OFFLINE_AFTER_SECONDS
from protocol.operations import AgentsListReply
from scripts.load.person import Refused, dashboard
from scripts.measures.hub import Hub
from scripts.proofs.report import Report
from scripts.proofs.telemetry.fleet import RealFleet, real_fleet

AGENTS: Final = 1000
REAL_AGENTS: Final = 20
REAL_HEARTBEAT_SECONDS: Final = 5
"""So short that real agents give a frozen hub up and come back to it."""
FROZEN_SECONDS: Final = 60.0
AFTER_SECONDS: Final = OFFLINE_AFTER_SECONDS + 10
CONNECTS_PER_SECOND: Final = 100.0
RETURNS_AT_ONCE: Final = 128
LOOK_SECONDS: Final = 1.0
MOVABLE: Final = own_module("scripts.proofs.telemetry.moved_hub", "serve")

Trouble = Callable[[Hub, Workers], Awaitable[str]]


class Trial(NamedTuple):
    fleet: RealFleet
    simulated: Workers
    watcher: Watcher


class Watcher:
    """Looks at the fleet's counts each second, and listens for agents that went."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.offline: list[str] = []
        self.looks = 0

    async def run(self) -> None:
        """Watch until cancelled; while the hub is away there is nothing to see."""
        while True:
            with suppress(SocketIOError, aiohttp.ClientError, OSError, Refused, TimeoutError):
                await self._watch()
            await asyncio.sleep(LOOK_SECONDS)

    async def _watch(self) -> None:
        token = await self._hub.access_token()
        async with dashboard(self._hub.web_url, token, {"agent:disconnected": self._gone}) as person:
            while True:
                reply = await person.ask("agents:list", limit=1)
                assert isinstance(reply, AgentsListReply)
                self.looks += 1
                if reply.counts.offline:
                    self.offline.append(f"{reply.counts.offline} offline in the list")
                await asyncio.sleep(LOOK_SECONDS)

    async def _gone(self, body: Any) -> None:
        self.offline.append(f"{body['hostname']}: {body['reason']}")


async def show(report: Report) -> None:
    words = f"{AGENTS} agents: the hub"
    await report.show(f"{words} restarted, in order and by -9: nobody called offline", lambda: shown(restarted))
    await report.show(f"{words} frozen for 60 s: nobody called offline", lambda: shown(frozen))
    await report.show(f"{words}'s clock moved by hours, both ways: nobody called offline", lambda: shown(moved))


async def shown(trouble: Callable[[Trial], Awaitable[str]]) -> str:
    """Return what happened. Raises AssertionError when an agent was called offline."""
    async with trial(AGENTS, REAL_AGENTS) as ready:
        said = await trouble(ready)
        await asyncio.sleep(AFTER_SECONDS)
        watcher = ready.watcher
        assert not watcher.offline, f"{len(watcher.offline)} times, first: {watcher.offline[0]}"
        return f"{said}; 0 offline in {watcher.looks} looks, {AFTER_SECONDS:.0f} s watched afterwards"


@asynccontextmanager
async def trial(agents: int, real_agents: int) -> AsyncIterator[Trial]:
    """Connect simulated and real agents with one hub, and watch them once all are there."""
    heartbeat = REAL_HEARTBEAT_SECONDS
    async with real_fleet(real_agents, crews=1, sample_seconds=10, heartbeat_seconds=heartbeat, serve=MOVABLE) as fleet:
        hub = fleet.hub
        identities = hub.folder.with_name("identities")
        await enroll(hub, identities, agents)
        plan = Connect(
            port=hub.agent_port,
            folder=str(identities),
            first=0,
            count=agents,
            per_second=CONNECTS_PER_SECOND,
            returns=True,
        )
        async with connected(plan) as simulated:
            fleet.crews[0].start()
            await until_active(hub, agents + real_agents)
            watcher = Watcher(hub)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watcher.run(), name="watcher")
                try:
                    yield Trial(fleet, simulated, watcher)
                finally:
                    watching.cancel()


async def until_active(hub: Hub, count: int) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(60), dashboard(hub.web_url, await hub.access_token(), {}) as person:
        while True:
            reply = await person.ask("agents:list", limit=1)
            assert isinstance(reply, AgentsListReply)
            if reply.counts.active == count:
                return
            await asyncio.sleep(LOOK_SECONDS)


async def restarted(ready: Trial) -> str:
    took = []
    for stop in (ready.fleet.hub.stop, ready.fleet.hub.kill):
        await stop()
        await ready.fleet.hub.start()
        began = time.monotonic()
        await ready.simulated.back(Return(at_once=RETURNS_AT_ONCE))
        took.append(time.monotonic() - began)
    return f"back {took[0]:.1f} s after an orderly stop, {took[1]:.1f} s after -9"


async def frozen(ready: Trial) -> str:
    pid = ready.fleet.hub.pid
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(FROZEN_SECONDS)
    os.kill(pid, signal.SIGCONT)
    return f"frozen {FROZEN_SECONDS:.0f} s; the real agents had given it up after {3 * REAL_HEARTBEAT_SECONDS} s"


async def moved(ready: Trial) -> str:
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR2, signal.SIGUSR1):
        os.kill(ready.fleet.hub.pid, number)
        await asyncio.sleep(AFTER_SECONDS / 4)
    return "two hours ahead, back, two hours behind, right again"
