"""What pages ask, of a hub whose store holds days of the fleet."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hub_server.bench.agent import now_ms
from hub_server.bench.figures import Figure, Target, of_runs, single, spread
from hub_server.bench.identities import identity_file
from hub_server.bench.muster import CONNECTS_PER_SECOND, Enrolled, connected
from hub_server.bench.orders import Connect
from hub_server.bench.processes import cores_for_load, finished, own_module
from protocol.requests import Reply
from protocol.telemetry import MetricsQueryReply
from scripts.load.person import Person, dashboard
from scripts.measures.history import Answer, Cost, Costs, Fill, Filled, Order, identity_in
from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.site import Site

TARGET: Final = Target(p99=10.0)
PAGE: Final = 50
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
CHARTED: Final = ("cpu_percent", "memory_percent", "disk_percent")
WARM_UP: Final = 3
ALARMED: Final = 200
FOR_EVER: Final = 1 << 40
STORE: Final = "metrics"
CPU_TARGET_US: Final = 6.0
SIZE_TARGET: Final = Target(p50=25.0)
HISTORY_DEADLINE_SECONDS: Final = 1200.0
A = TypeVar("A", bound=Answer)


async def measure(options: Options, site: Site, fleet: Enrolled) -> Sequence[Figure]:
    """Ask over a dashboard's socket, one question after the other, while the whole fleet is connected and samples.

    The hub has a core of its own, the fleet shares the others.
    """
    hub = site.hub
    own_core, other_cores = cores_for_load()
    await hub.stop()
    filled = await filled_store(options, hub, fleet)
    await hub.start(own_core)
    plan = Connect(
        port=hub.agent_port,
        folder=str(fleet.identities),
        first=0,
        count=fleet.count,
        per_second=CONNECTS_PER_SECOND,
        sample_seconds=options.sample_seconds,
        alarmed=min(fleet.count, ALARMED),
        alarm_samples=FOR_EVER,
    )
    async with connected(plan, other_cores):
        await asyncio.sleep(options.introduction_seconds)
        asked = await ask(options, hub, fleet)
    return [
        single("samples written into the store beforehand", "millions", filled.samples / 1e6, note=_held(options)),
        *asked,
        *await cost_figures(options),
    ]


async def ask(options: Options, hub: Hub, fleet: Enrolled) -> Sequence[Figure]:
    async with dashboard(hub.web_url, await hub.access_token(), {}) as person:
        agent_ids = [identity_in(identity_file(fleet.identities, n))[1] for n in range(some(options, fleet))]
        figures = []
        for name, operation, bodies, note in questions(options, fleet.count, agent_ids):
            took, reply = await took_ms(person, operation, bodies)
            figures.append(spread(name, "ms", took, TARGET, note + _read_as(reply)))
        return figures


async def filled_store(options: Options, hub: Hub, fleet: Enrolled) -> Filled:
    """Write the fleet's history while the hub is away. Raises BenchFailed."""
    order = Fill(
        store=str(hub.folder / STORE),
        identities=str(fleet.identities),
        agents=fleet.count,
        recent_hours=options.recent_hours,
        history_agents=some(options, fleet),
        history_days=options.history_days,
    )
    return await answer(order, Filled)


async def cost_figures(options: Options) -> Sequence[Figure]:
    """Return what the store takes for a sample, in a process of its own and a folder of its own."""
    runs = [
        await answer(Cost(store=str(options.folder / f"store-{run}"), samples=options.store_samples), Costs)
        for run in range(options.runs)
    ]
    whole = [run.add_cpu_us + run.pack_cpu_us for run in runs]
    note = f"{runs[0].samples} samples of 8 values; storing {runs[0].add_cpu_us:.1f}, packing {runs[0].pack_cpu_us:.1f}"
    return [
        of_runs("store, CPU a sample", "µs", whole, Target(p50=CPU_TARGET_US), note),
        of_runs("store, size of a packed sample", "bytes", [run.packed_bytes for run in runs], SIZE_TARGET),
    ]


async def answer(order: Order, kind: type[A]) -> A:
    """Raises BenchFailed."""
    program = own_module("scripts.measures.history")
    said = await finished(program, os.environ, msgspec.json.encode(order).decode(), HISTORY_DEADLINE_SECONDS)
    return msgspec.json.decode(said, type=kind)


def some(options: Options, fleet: Enrolled) -> int:
    return min(options.history_agents, fleet.count)


def _held(options: Options) -> str:
    before = ", and 30 days before that, one a minute" if options.history_days >= 1 else ""
    return (
        f"each 10 s: all agents the last {options.recent_hours:g} h, {options.history_agents} of them the last "
        f"{options.history_days:g} days{before}"
    )


def questions(
    options: Options, agents: int, agent_ids: Sequence[str]
) -> Sequence[tuple[str, str, Sequence[Mapping[str, Any]], str]]:
    """Return name, operation, the bodies of each asking and a note."""
    now, turns = now_ms(), range(WARM_UP + options.queries)
    pages = [{"limit": PAGE, "offset": random.randrange(max(1, agents - PAGE))} for _ in turns]  # noqa: S311  no secret

    def charts(days: int) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "agentIds": [agent_ids[turn % len(agent_ids)]],
                "metrics": list(CHARTED),
                "from": now - days * DAY_MS,
                "to": now,
                "maxPoints": 500,
            }
            for turn in turns
        ]

    held = f"one of {len(agent_ids)} agents"
    return (
        (f"{PAGE} of {agents} agents", "agents:list", pages, "any page"),
        ("chart of 24 h", "metrics:query", charts(1), held),
        ("chart of 30 d", "metrics:query", charts(30), held),
        (
            "open alerts",
            "alerts:list",
            [{"state": "OPEN", "limit": PAGE} for _ in turns],
            f"{min(agents, ALARMED)} open",
        ),
    )


async def took_ms(person: Person, operation: str, bodies: Sequence[Mapping[str, Any]]) -> tuple[Sequence[float], Reply]:
    """Return the milliseconds of each answer, after a few that do not count, and the last answer."""
    first, *others = bodies
    reply, took = await person.ask(operation, **first), []
    for body in others:
        began_at = time.perf_counter()
        reply = await person.ask(operation, **body)
        took.append((time.perf_counter() - began_at) * 1000)
    return took[WARM_UP - 1 :], reply


def _read_as(reply: Reply) -> str:
    """Return what a chart was drawn of, to be put behind a note."""
    if not isinstance(reply, MetricsQueryReply):
        return ""
    points = sum(len(series.timestamps) for series in reply.series)
    return f"; {points} points of {reply.resolution_sec} s, read as {reply.resolution}"
