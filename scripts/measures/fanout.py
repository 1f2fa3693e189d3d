"""What it costs to show the same samples to many dashboards, for the hub and for Node's Socket.IO."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from hub_server.bench.figures import Figure, Target, of_runs, single, void
from hub_server.bench.muster import Enrolled, connected, require
from hub_server.bench.orders import Connect, Counted
from hub_server.bench.processes import BenchFailed, cpu_seconds_of
from hub_server.bench.steady import problems_of
from hub_server.bench.workers import bottleneck_of, working
from protocol.limits import FEED_TICK_SECONDS
from scripts.load.plans import Crowd
from scripts.measures.options import Options
from scripts.measures.peer_program import NoPeer, node_argv, serving
from scripts.measures.site import Site
from scripts.measures.stage import DASHBOARDS

VIEW_AGENTS: Final = 25
TYPES: Final = ("system", *(f"custom.{number}" for number in range(7)))
"""Few agents with many types: as many samples a tick as of 10,000 agents, for the least work beside the fan-out."""
SHOWN: Final = (
    "cpu_percent",
    "memory_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "disk_percent",
    "disk_mount",
    "disk_used_bytes",
    "disk_total_bytes",
)
"""What the page of the fleet asks for."""
NODE_RATIO_TARGET: Final = 0.25
CONNECTS_PER_SECOND: Final = 200.0
MICROSECONDS: Final = 1e6
OURS: Final = "hub, CPU a delivered sample"
THEIRS: Final = "Node socket.io, CPU a delivered sample"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server showed in a window, and what it took beyond `idle`, its CPU share without dashboards."""

    seconds: float
    cpu_seconds: float
    crowd: Sequence[Counted]

    @property
    def samples(self) -> int:
        return sum(seen.samples for seen in self.crowd)

    @property
    def batches(self) -> int:
        return sum(seen.answered for seen in self.crowd)

    def cost_us(self, idle: float) -> float:
        return MICROSECONDS * (self.cpu_seconds - idle * self.seconds) / max(self.samples, 1)


async def measure(options: Options, site: Site, fleet: Enrolled) -> Sequence[Figure]:
    """Let agents send a sample each tick and show all of them to all; the difference to no dashboard is the cost."""
    hub, agents = site.hub, min(fleet.count, VIEW_AGENTS)
    token = await hub.access_token()
    frame = options.folder / "batch.txt"
    plan = Connect(
        port=hub.agent_port,
        folder=str(fleet.identities),
        first=0,
        count=agents,
        per_second=CONNECTS_PER_SECOND,
        sample_seconds=FEED_TICK_SECONDS,
        metric_types=TYPES,
    )
    ours: list[Shown] = []
    idle: list[float] = []
    async with connected(plan):
        await asyncio.sleep(options.settle_seconds / 3)
        for _ in range(options.runs):
            idle.append(await idle_share(hub.pid, options.crowd_seconds))
            view = Crowd(hub.web_url, token, options.crowd, agents, SHOWN, frame_file=str(frame))
            ours.append(await shown(hub.pid, view, options.crowd_seconds))
    if not any(run.batches for run in ours):
        raise BenchFailed(f"the hub sent no batch to any dashboard{problems_of(ours[-1].crowd)}")
    figures = [_figure(OURS, ours, [run.cost_us(share) for run, share in zip(ours, idle, strict=True)], options)]
    if options.with_peers:
        figures += await peer_figures(options, token, frame, agents, figures[0])
    return figures


async def peer_figures(options: Options, token: str, frame: Path, agents: int, hub: Figure) -> Sequence[Figure]:
    """Show the batch that the hub sent, as often, to as many, with Node."""
    try:
        argv = await node_argv("node_socketio", options.cache)
    except NoPeer as missing:
        return [void(THEIRS, "µs", Target(), str(missing))]
    tick_ms = str(round(1000 * FEED_TICK_SECONDS))
    async with serving(argv, options.folder / "node-socketio.log", str(frame), tick_ms) as (node, port):
        idle = await idle_share(node.pid, options.crowd_seconds)
        view = Crowd(f"http://127.0.0.1:{port}", token, options.crowd, agents, SHOWN)
        theirs = [await shown(node.pid, view, options.crowd_seconds) for _ in range(options.runs)]
    costs = [run.cost_us(idle) for run in theirs]
    peer = _figure(THEIRS, theirs, costs, options)
    ratio = single("hub's delivered sample ÷ Node socket.io's", "ratio", (hub.p50 or 0.0) / median(costs))
    return [peer, _with_target(ratio, [hub, peer])]


async def idle_share(pid: int, seconds: float) -> float:
    """Return the part of a core that a server uses while nobody watches."""
    began_at, cpu_began = time.perf_counter(), cpu_seconds_of(pid)
    await asyncio.sleep(seconds)
    return (cpu_seconds_of(pid) - cpu_began) / (time.perf_counter() - began_at)


async def shown(pid: int, view: Crowd, seconds: float) -> Shown:
    """Let a crowd look for a while. Raises BenchFailed."""
    async with working([view], DASHBOARDS) as crowd:
        require(crowd.done, view.count, "watching", crowd.problems)
        await crowd.begin()
        began_at, cpu_began = time.perf_counter(), cpu_seconds_of(pid)
        await asyncio.sleep(seconds)
        cpu_seconds = cpu_seconds_of(pid) - cpu_began
        return Shown(time.perf_counter() - began_at, cpu_seconds, await crowd.finish())


def _figure(name: str, runs: Sequence[Shown], costs: Sequence[float], options: Options) -> Figure:
    batches = sum(run.batches for run in runs)
    if not batches:
        return void(name, "µs", Target(), f"no batch came{problems_of(runs[-1].crowd)}")
    samples = sum(run.samples for run in runs)
    rate = batches / sum(run.seconds for run in runs) / options.crowd
    note = f"{options.crowd} dashboards, {rate:.1f} batches/s of {samples / batches:.0f} samples each"
    why = bottleneck_of([seen for run in runs for seen in run.crowd])
    told = note + problems_of(runs[-1].crowd)
    return void(name, "µs", Target(), why) if why else of_runs(name, "µs", costs, note=told)


def _with_target(ratio: Figure, parts: Sequence[Figure]) -> Figure:
    if any(part.is_void for part in parts):
        return void(ratio.name, ratio.unit, Target(p50=NODE_RATIO_TARGET), "one of the two could not be measured")
    return single(ratio.name, ratio.unit, ratio.p50 or 0.0, NODE_RATIO_TARGET)
