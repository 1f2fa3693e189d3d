"""How many samples a hub receives, commits and acknowledges in a second, and whether any was lost or stored twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hub_server.bench.figures import NO_TARGET, Figure, Target, of_runs, single, spread
from hub_server.bench.hub import Hub
from hub_server.bench.kept import Kept, kept
from hub_server.bench.muster import connected
from hub_server.bench.orders import Connect, Counted, Pressure
from hub_server.bench.processes import cores_for_load, cpu_seconds_of
from hub_server.bench.steady import problems_of
from hub_server.bench.workers import Workers, bottleneck_of
from protocol.limits import FRAMES_PER_SECOND, SAMPLES_PER_FRAME_MAX

CONNECTS_PER_SECOND: Final = 200.0
BATCH_AGENTS: Final = 100
SINGLE_AGENTS: Final = 1000
WARM_UP_SHARE: Final = 0.2
LOST: Final = "samples acknowledged and gone after kill -9"
TWICE: Final = "samples stored twice"
FULL_CPU_SHARE: Final = 0.9
MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of sending as much as the hub takes. `per_second`: samples that were promised."""

    name: str
    agents: int
    pressure: Pressure
    per_second: float


@dataclass(frozen=True, slots=True)
class Run:
    """One window at full pressure. `cpu_share`: of one core, the hub's."""

    samples_per_second: float
    cpu_share: float
    delays_ms: Sequence[float]
    load: Sequence[Counted]


@dataclass(frozen=True, slots=True)
class Balance:
    """Samples that were sent and acknowledged, and what was on the disk before and after them."""

    sent: int
    acknowledged: int
    before: Kept
    after: Kept

    @property
    def found(self) -> int:
        return self.after.sequences - self.before.sequences

    @property
    def surplus(self) -> int:
        """Return how many samples more than sequences there are, of the agents whose samples were counted."""
        samples = self.after.samples - self.before.samples
        return samples - (self.after.counted_sequences - self.before.counted_sequences)


BATCHED: Final = Kind(
    "200 samples a frame",
    BATCH_AGENTS,
    Pressure(samples_per_frame=SAMPLES_PER_FRAME_MAX, frames_per_second=FRAMES_PER_SECOND / 4),
    per_second=20_000,
)
ONE_BY_ONE: Final = Kind(
    "one sample a frame",
    SINGLE_AGENTS,
    Pressure(samples_per_frame=1, frames_per_second=FRAMES_PER_SECOND * 0.9, in_flight=4),
    per_second=12_000,
)
KINDS: Final = (BATCHED, ONE_BY_ONE)


async def measure(hub: Hub, identities: Path, agents: int, *, seconds: float, runs: int) -> Sequence[Figure]:
    """Start the hub on a core of its own and press it in each way; it is killed after each. Raises BenchFailed."""
    figures: list[Figure] = []
    balances = []
    for kind in KINDS:
        seen, balance = await press(hub, identities, kind, min(agents, kind.agents), seconds=seconds, runs=runs)
        figures += figures_of(kind, seen, min(agents, kind.agents))
        balances.append(balance)
    return [*figures, *balance_figures(balances)]


async def press(
    hub: Hub, identities: Path, kind: Kind, agents: int, *, seconds: float, runs: int
) -> tuple[Sequence[Run], Balance]:
    """Press a hub that is started for it, let everything come to rest, and kill it. Raises BenchFailed."""
    own_core, other_cores = cores_for_load()
    await hub.stop()
    before = await kept(hub.folder)
    await hub.start(own_core)
    plan = Connect(
        port=hub.agent_port,
        folder=str(identities),
        first=0,
        count=agents,
        per_second=CONNECTS_PER_SECOND,
        values="seed",
        pressure=kind.pressure,
    )
    async with connected(plan, other_cores) as fleet:
        await asyncio.sleep(seconds * WARM_UP_SHARE)
        seen = [await _run(hub, fleet, seconds) for _ in range(runs)]
        rested = await fleet.rest()
    await hub.kill()  # what was acknowledged must outlive it
    return seen, Balance(
        sent=sum(report.sent_samples for report in rested),
        acknowledged=sum(report.acknowledged_samples for report in rested),
        before=before,
        after=await kept(hub.folder),
    )


async def _run(hub: Hub, fleet: Workers, seconds: float) -> Run:
    await fleet.begin()
    began_at, cpu_began = time.perf_counter(), cpu_seconds_of(hub.pid)
    await asyncio.sleep(seconds)
    load = await fleet.finish()
    took_seconds = time.perf_counter() - began_at
    return Run(
        samples_per_second=sum(report.samples for report in load) / took_seconds,
        cpu_share=(cpu_seconds_of(hub.pid) - cpu_began) / took_seconds,
        delays_ms=[delay for report in load for delay in report.delays_ms],
        load=load,
    )


def figures_of(kind: Kind, runs: Sequence[Run], agents: int) -> Sequence[Figure]:
    rates = [run.samples_per_second for run in runs]
    cpu_share = sum(run.cpu_share for run in runs) / len(runs)
    load_share = max(report.cpu_share for run in runs for report in run.load)
    note = f"{agents} agents; hub at {cpu_share:.0%} of its core, load generator at {load_share:.0%}"
    note += problems_of(runs[-1].load)
    rate = of_runs(f"samples committed and acknowledged, {kind.name}", "a second", rates, _promised(kind, agents), note)
    costs = [MICROSECONDS * run.cpu_share / max(run.samples_per_second, 1e-9) for run in runs]
    delays_ms = [delay for run in runs for delay in run.delays_ms]
    return [
        _unless_starved(rate, cpu_share, bottleneck_of([report for run in runs for report in run.load])),
        of_runs(f"hub, CPU a sample, {kind.name}", "µs", costs),
        spread(f"frame → acknowledged at full pressure, {kind.name}", "ms", delays_ms),
    ]


def balance_figures(balances: Sequence[Balance]) -> Sequence[Figure]:
    """Return what was lost or doubled over all of `balances`: both must be none."""
    sent = sum(balance.sent for balance in balances)
    unanswered = sum(balance.sent - balance.acknowledged for balance in balances)
    lost = sum(max(0, balance.acknowledged - balance.found, -balance.surplus) for balance in balances)
    twice = sum(max(0, balance.found - balance.sent, balance.surplus) for balance in balances)
    counted = sum(balance.after.samples - balance.before.samples for balance in balances)
    return [
        single(LOST, "samples", lost, 0.0, f"of {sent} sent; {unanswered} of them not acknowledged"),
        single(TWICE, "samples", twice, 0.0, f"{counted} counted one by one"),
    ]


def _promised(kind: Kind, agents: int) -> Target:
    return Target(at_least=kind.per_second) if agents == kind.agents else NO_TARGET


def _unless_starved(rate: Figure, hub_share: float, why: str) -> Figure:
    """A rate below what was promised says nothing of a hub that was not asked for more."""
    is_met = rate.target.at_least is None or (rate.p50 or 0.0) >= rate.target.at_least
    if is_met or hub_share >= FULL_CPU_SHARE or not why:
        return rate
    return msgspec.structs.replace(rate, is_void=True, note=f"{why}; {rate.note}")
