"""The whole fleet comes back at once after the hub was killed, and what one handshake costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from hub_server.bench.figures import NO_TARGET, Figure, Target, of_runs, single, void
from hub_server.bench.muster import Enrolled, connected, knock_seconds, require, shares_of
from hub_server.bench.orders import Connect, Return
from hub_server.bench.processes import cpu_seconds_of
from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.peer_program import NoPeer, node_argv, serving
from scripts.measures.peers import tls_of
from scripts.measures.site import Site

BACK_SECONDS: Final = 30.0
PROMISED_AGENTS: Final = 10_000
NODE_RATIO_TARGET: Final = 0.85
CONNECTS_PER_SECOND: Final = 200.0
AT_ONCE: Final = 256
"""Agents that try at a time, over all load processes: more than the hub lets into a handshake."""
KNOCKS_MAX: Final = 1000
MILLISECONDS: Final = 1000


async def measure(options: Options, site: Site, fleet: Enrolled) -> Sequence[Figure]:
    """Kill the hub under its fleet and let all come back; then count the CPU of handshakes alone."""
    hub = site.hub
    plan = Connect(
        port=hub.agent_port,
        folder=str(fleet.identities),
        first=0,
        count=fleet.count,
        per_second=CONNECTS_PER_SECOND,
        returns=True,
    )
    took, cost = [], []
    async with connected(plan) as agents:
        order = Return(at_once=AT_ONCE // len(shares_of(fleet.count)))
        for _ in range(options.runs):
            await hub.kill()
            await hub.start()
            cpu_began = cpu_seconds_of(hub.pid)
            reports = await agents.back(order)
            cost.append(MILLISECONDS * (cpu_seconds_of(hub.pid) - cpu_began) / fleet.count)
            took.append(max(report.took_seconds for report in reports))
            problems = {name: count for report in reports for name, count in report.problems.items()}
            require(sum(report.done for report in reports), fleet.count, "back", problems)
    return [
        of_runs(f"{fleet.count} agents back after kill -9", "s", took, _promised(fleet.count), "from their first try"),
        of_runs("hub, CPU an agent that comes back", "ms", cost, note="handshake to welcome, all included"),
        *await handshakes(options, hub, fleet),
    ]


def _promised(count: int) -> Target:
    """The promise is for 10,000 agents; fewer must be back in proportion, a handful at no set time."""
    return Target(p50=BACK_SECONDS * min(1.0, count / PROMISED_AGENTS)) if count >= KNOCKS_MAX else NO_TARGET


async def handshakes(options: Options, hub: Hub, fleet: Enrolled) -> Sequence[Figure]:
    """Return what the handshake and the upgrade cost the hub, and Node in the same way, in turns."""
    count = min(fleet.count, KNOCKS_MAX)
    names = "hub, CPU a handshake and upgrade", "Node ws, CPU a handshake and upgrade"
    try:
        argv = await node_argv("node_ws", options.cache) if options.with_peers else None
    except NoPeer as missing:
        return [void(names[1], "ms", Target(), str(missing))]
    if argv is None:
        ours = [
            MILLISECONDS * await knock_seconds(hub.pid, hub.agent_port, fleet.identities, count)
            for _ in range(options.runs)
        ]
        return [of_runs(names[0], "ms", ours)]
    ours, theirs = [], []
    log = options.folder / "node-ws-storm.log"
    async with serving(argv, log, *tls_of(hub, fleet.identities)) as (node, port):
        await asyncio.sleep(options.settle_seconds / 3)
        for _ in range(options.runs):
            ours.append(MILLISECONDS * await knock_seconds(hub.pid, hub.agent_port, fleet.identities, count))
            theirs.append(MILLISECONDS * await knock_seconds(node.pid, port, fleet.identities, count))
    ratio = sorted(ours)[len(ours) // 2] / sorted(theirs)[len(theirs) // 2]
    return [
        of_runs(names[0], "ms", ours, note=f"{count} each run, no hello"),
        of_runs(names[1], "ms", theirs, note="same generator, same certificates"),
        single("hub's handshake ÷ Node ws's", "ratio", ratio, NODE_RATIO_TARGET),
    ]
