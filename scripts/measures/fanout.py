"""What it costs to show the same samples to many dashboards, for the hub and for Node's Socket.IO."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub_server.bench.figures import Figure, Target, of_runs, single, void
from hub_server.bench.muster import Enrolled, connected, require
from hub_server.bench.orders import Connect, Counted
from hub_server.bench.processes import BenchFailed, cpu_seconds_of
from hub_server.bench.steady import problems_of
from hub_server.bench.workers import bottleneck_of, working
from protocol.limits import FEED_CONFIRM_EVERY, FEED_TICK_SECONDS
from scripts.load.plans import Crowd
from scripts.measures.hub import Hub
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
KILOBYTE: Final = 1e3
OURS: Final = "hub, CPU a delivered sample"
THEIRS: Final = "Node socket.io, CPU a delivered sample"
COMPRESSION: Final = (
    "to dashboards that offer compression: the hub's are compressed once for all, Node's not, its default"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server showed in a window, and what it took for it; `idle`: the part of a core without dashboards."""

    seconds: float
    cpu_seconds: float
    idle: float
    crowd: Sequence[Counted]

    @property
    def samples(self) -> int:
        return sum(seen.samples for seen in self.crowd)

    @property
    def batches(self) -> int:
        return sum(seen.answered for seen in self.crowd)

    @property
    def received_bytes(self) -> int:
        return sum(seen.received_bytes for seen in self.crowd)

    @property
    def wire_bytes(self) -> int:
        return sum(seen.wire_bytes for seen in self.crowd)

    @property
    def cost_us(self) -> float:
        """Return the CPU of a delivered sample."""
        return MICROSECONDS * (self.cpu_seconds - self.idle * self.seconds) / max(self.samples, 1)


@dataclass(frozen=True, slots=True)
class Way:
    """How dashboards are connected: in the clear, as from this machine or a proxy, or by TLS with `certificate`."""

    name: str
    scheme: str
    certificate: Path | None


async def measure(options: Options, site: Site, fleet: Enrolled) -> Sequence[Figure]:
    """Let agents send samples each tick and show all of them to all; the cost is the difference to no dashboard."""
    hub = site.hub
    token = await hub.access_token()
    try:
        return [figure for way in ways(options, hub) for figure in await measure_way(options, hub, fleet, token, way)]
    finally:
        hub.web_certificate = None
        await hub.stop()
        await hub.start()


def ways(options: Options, hub: Hub) -> Sequence[Way]:
    clear = Way("", "http", None)
    return [clear, Way(" by TLS", "https", hub.folder / "pki/server.pem")] if options.crowd_by_tls else [clear]


async def measure_way(options: Options, hub: Hub, fleet: Enrolled, token: str, way: Way) -> Sequence[Figure]:
    await hub.stop()
    hub.web_certificate = way.certificate
    await hub.start()
    frame = options.folder / f"batch-{way.scheme}.txt"
    ours = await shown_by_hub(options, hub, fleet, token, frame)
    figures = [_figure(f"{OURS}{way.name}", ours, options), _size(f"hub, a batch on the wire{way.name}", ours)]
    if options.with_peers:
        figures += await peer_figures(options, way, token, frame, figures[0])
    return figures


async def shown_by_hub(options: Options, hub: Hub, fleet: Enrolled, token: str, frame: Path) -> Sequence[Shown]:
    agents = min(fleet.count, VIEW_AGENTS)
    plan = Connect(
        port=hub.agent_port,
        folder=str(fleet.identities),
        first=0,
        count=agents,
        per_second=CONNECTS_PER_SECOND,
        sample_seconds=FEED_TICK_SECONDS,
        metric_types=TYPES,
    )
    view = Crowd(hub.web_url, token, options.crowd, agents, SHOWN, frame_file=str(frame))
    async with connected(plan):
        await asyncio.sleep(options.settle_seconds / 3)
        ours = [await shown(hub.pid, view, options.crowd_seconds) for _ in range(options.runs)]
    if not any(run.samples for run in ours):
        raise BenchFailed(f"the hub sent no batch to any dashboard{problems_of(ours[-1].crowd)}")
    return ours


async def peer_figures(options: Options, way: Way, token: str, frame: Path, ours: Figure) -> Sequence[Figure]:
    """Show the batch that the hub sent, as often, to as many, who confirm as often, with Node."""
    name, target = f"{THEIRS}{way.name}", Target(p50=NODE_RATIO_TARGET)
    try:
        argv = await node_argv("node_socketio", options.cache)
    except NoPeer as missing:
        return [void(name, "µs", Target(), str(missing))]
    arguments = [str(frame), str(round(1000 * FEED_TICK_SECONDS)), str(FEED_CONFIRM_EVERY)]
    if way.certificate is not None:
        arguments.append(str(way.certificate))
    async with serving(argv, options.folder / f"node-socketio-{way.scheme}.log", *arguments) as (node, port):
        view = Crowd(f"{way.scheme}://127.0.0.1:{port}", token, options.crowd, VIEW_AGENTS, SHOWN)
        theirs = [await shown(node.pid, view, options.crowd_seconds) for _ in range(options.runs)]
    peer, size = _figure(name, theirs, options), _size(f"Node socket.io, a batch on the wire{way.name}", theirs)
    ratio = f"hub's delivered sample ÷ Node socket.io's{way.name}"
    if ours.is_void or peer.is_void:
        return [peer, size, void(ratio, "ratio", target, "one of the two could not be measured")]
    return [peer, size, single(ratio, "ratio", (ours.p50 or 0.0) / (peer.p50 or 1.0), NODE_RATIO_TARGET, COMPRESSION)]


async def idle_share(pid: int, seconds: float) -> float:
    """Return the part of a core that a server uses while nobody watches."""
    began_at, cpu_began = time.perf_counter(), cpu_seconds_of(pid)
    await asyncio.sleep(seconds)
    return (cpu_seconds_of(pid) - cpu_began) / (time.perf_counter() - began_at)


async def shown(pid: int, view: Crowd, seconds: float) -> Shown:
    """Look at a server while nobody watches, then while a crowd does. Raises BenchFailed."""
    idle = await idle_share(pid, seconds)
    async with working([view], DASHBOARDS) as crowd:
        require(crowd.done, view.count, "watching", crowd.problems)
        await crowd.begin()
        began_at, cpu_began = time.perf_counter(), cpu_seconds_of(pid)
        await asyncio.sleep(seconds)
        cpu_seconds = cpu_seconds_of(pid) - cpu_began
        return Shown(time.perf_counter() - began_at, cpu_seconds, idle, await crowd.finish())


def _figure(name: str, runs: Sequence[Shown], options: Options) -> Figure:
    batches, samples = sum(run.batches for run in runs), sum(run.samples for run in runs)
    rate = batches / sum(run.seconds for run in runs) / options.crowd
    size = sum(run.received_bytes for run in runs) / max(batches, 1) / KILOBYTE
    note = (
        f"{options.crowd} dashboards, {rate:.1f} batches/s of {samples / max(batches, 1):.0f} samples and {size:.0f} KB"
    )
    why = bottleneck_of([seen for run in runs for seen in run.crowd])
    told = note + problems_of(runs[-1].crowd)
    costs = [run.cost_us for run in runs]
    return void(name, "µs", Target(), why) if why else of_runs(name, "µs", costs, note=told)


def _size(name: str, runs: Sequence[Shown]) -> Figure:
    """Return what a batch was when it came, compressed or not."""
    batches = max(sum(run.batches for run in runs), 1)
    text = sum(run.received_bytes for run in runs) / batches / KILOBYTE
    wire = sum(run.wire_bytes for run in runs) / batches / KILOBYTE
    return single(name, "KB", wire, note=f"{text:.1f} KB of text")
