"""Slow clients that prove nothing, hundreds of each kind, while a fleet of honest agents goes on as before."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

from hub_server.bench.agent import SimulatedAgent
from hub_server.bench.fleet import open_socket
from hub_server.bench.identities import ANCHORS, enroll_all, identity_context
from hub_server.bench.orders import Enroll
from hub_server.bench.tally import Tally
from protocol.codec import decode_hub_frame
from protocol.frames import HeartbeatAck
from scripts.measures.hub import Hub
from scripts.proofs.report import Report
from tests.integration import slow

AGENTS: Final = 200
CLIENTS: Final = 300
CLIENTS_AN_ADDRESS: Final = 30
HEARTBEATS_PER_SECOND: Final = 100
SETTLE_SECONDS: Final = 5.0
BEFORE_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 4.0
"""For the sweep's step, a handshake's turn among hundreds, and the clients' own start."""
SLOWER_MAX: Final = 2.0
FLOOR_MS: Final = 2.0
"""Round trips below it are the machine's noise."""


class Kind(NamedTuple):
    """`deadline_seconds`: until the hub ends it. `tls`: None, anonymous or as an enrolled agent."""

    client: slow.Slow
    listener: str
    deadline_seconds: float
    tls: str | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "say nothing": Kind(slow.SILENT, "people", 10),
    "headers, a byte a second": Kind(slow.SLOW_HEADERS, "people", 10),
    "idle after an answer": Kind(slow.IDLE, "people", 15),
    "second headers, a byte a second": Kind(slow.SECOND_HEADERS, "people", 15),
    "body, a byte a second": Kind(slow.SLOW_SIGN_IN, "people", 12),
    "chunk, a byte a second": Kind(slow.SLOW_CHUNK, "people", 12),
    "body that nobody asked for": Kind(slow.UNWANTED_BODY, "people", 12),
    "WebSocket without a sign-in": Kind(slow.NO_SIGN_IN, "people", 12),
    "WebSocket, half a frame": Kind(slow.HALF_A_SIGN_IN, "people", 12),
    "no TLS at all": Kind(slow.SILENT, "agents", 10),
    "TLS, a byte a second": Kind(slow.SLOW_HANDSHAKE, "agents", 10),
    "half a TLS handshake": Kind(slow.HALF_A_HANDSHAKE, "agents", 10),
    "headers in TLS": Kind(slow.SLOW_HEADERS, "agents", 10, "anonymous"),
    "body in TLS": Kind(slow.SLOW_ENROLLMENT, "agents", 12, "anonymous"),
    "agent's WebSocket without a hello": Kind(slow.NO_HELLO, "agents", 9, "agent"),
    "agent's WebSocket, half a hello": Kind(slow.HALF_A_HELLO, "agents", 9, "agent"),
}


class TimedAgent(SimulatedAgent):
    """Measures how long its heartbeats take until they are acknowledged."""

    __slots__ = ("_asked_at", "round_trips_ms")

    def __init__(self, number: int, tally: Tally) -> None:
        super().__init__(number, tally, silent=False)
        self.round_trips_ms: list[float] = []
        self._asked_at: float | None = None

    def heartbeat(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.perf_counter()
            super().heartbeat()

    def received(self, text: bytes) -> None:
        if self._asked_at is not None and isinstance(decode_hub_frame(text), HeartbeatAck):
            self.round_trips_ms.append((time.perf_counter() - self._asked_at) * 1000)
            self._asked_at = None
        super().received(text)


class Fleet(NamedTuple):
    agents: Sequence[TimedAgent]
    tally: Tally

    def taken(self) -> list[float]:
        """Return the round trips since the last question, in ms, shortest first."""
        taken = sorted(itertools.chain.from_iterable(agent.round_trips_ms for agent in self.agents))
        for agent in self.agents:
            agent.round_trips_ms.clear()
        return taken

    async def beat(self) -> None:
        """Let the agents say heartbeats in turns, until cancelled."""
        for agent in itertools.cycle(self.agents):
            agent.heartbeat()
            await asyncio.sleep(1 / HEARTBEATS_PER_SECOND)


async def show(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-slow-") as name:
        folder = Path(name)
        hub = Hub(folder / "hub")
        await hub.start_as_users_do()
        try:
            async with _fleet(hub, folder / "identities") as fleet:
                await asyncio.sleep(SETTLE_SECONDS)
                fleet.taken()
                await asyncio.sleep(BEFORE_SECONDS)
                before = fleet.taken()
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere:
                    for what, kind in KINDS.items():
                        line = f"{CLIENTS} slow clients: {what} ({kind.listener}' listener)"
                        await report.show(line, partial(_met, hub, fleet, folder, elsewhere, what, before))
        finally:
            await hub.stop()


@asynccontextmanager
async def _fleet(hub: Hub, identities: Path) -> AsyncIterator[Fleet]:
    """Enroll one more agent than connect: the last is whoever lends its certificate to slow clients."""
    join = await hub.join_string(AGENTS + 1)
    problems = await enroll_all(Enroll(join_string=join, folder=str(identities), first=0, count=AGENTS + 1))
    assert not problems, problems
    anchors, tally = (identities / ANCHORS).read_text(), Tally()
    agents = [TimedAgent(number, tally) for number in range(AGENTS)]
    sockets = []
    for number, agent in enumerate(agents):
        sockets.append(await open_socket(agent, identity_context(identities, anchors, number), hub.agent_port))
        await agent.welcome
    fleet = Fleet(agents, tally)
    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(fleet.beat(), name="heartbeats")
        try:
            yield fleet
        finally:
            beating.cancel()
            for socket in sockets:
                socket.abort()


async def _met(
    hub: Hub, fleet: Fleet, folder: Path, elsewhere: ProcessPoolExecutor, what: str, before: Sequence[float]
) -> str:
    fleet.taken()
    kind, loop = KINDS[what], asyncio.get_running_loop()
    port = hub.web_port if kind.listener == "people" else hub.agent_port
    seconds = await loop.run_in_executor(elsewhere, meet_all, what, port, str(folder / "identities"))
    during = fleet.taken()
    late = [after for after in seconds if after > kind.deadline_seconds + GRACE_SECONDS]
    assert not late, f"{len(late)} of {len(seconds)} outstayed {kind.deadline_seconds} s, the last {max(late):.1f} s"
    assert len(seconds) == CLIENTS
    assert fleet.tally.connected == AGENTS, fleet.tally.problems
    usual, now = statistics.median(before), statistics.median(during)
    assert now <= max(SLOWER_MAX * usual, FLOOR_MS), f"heartbeats took {now:.1f} ms, {usual:.1f} ms before"
    return (
        f"all ended after {min(seconds):.1f} to {max(seconds):.1f} s; {AGENTS} agents: 0 lost, heartbeat "
        f"{now:.1f} ms ({usual:.1f} before), 99 % in {_percentile(during, 99):.0f} ms "
        f"({_percentile(before, 99):.0f} before)"
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def meet_all(what: str, port: int, identities: str) -> list[float]:
    """Connect all clients of this kind at once; return how long the hub put up with each. Runs in its own process."""
    return asyncio.run(_meet_all(KINDS[what], port, Path(identities)))


async def _meet_all(kind: Kind, port: int, identities: Path) -> list[float]:
    tls: ssl.SSLContext | None = None
    anchors = (identities / ANCHORS).read_text()
    if kind.tls == "anonymous":
        tls = ssl.create_default_context(cadata=anchors)
    elif kind.tls == "agent":
        tls = identity_context(identities, anchors, AGENTS)
    async with asyncio.TaskGroup() as tasks:
        met = []
        for number in range(CLIENTS):
            address = f"127.0.0.{10 + number // CLIENTS_AN_ADDRESS}"
            met.append(tasks.create_task(kind.client.met(port, address, tls=tls), name=f"slow-{number}"))
            await asyncio.sleep(0.003)
    return [task.result().after_seconds for task in met]
