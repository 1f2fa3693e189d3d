"""What a whole fleet costs the hub, and how the hub answers meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from scripts.load.orders import Counted
from scripts.measures.exposition import Series, change, pauses
from scripts.measures.figures import Figure, Target, single, spread, void
from scripts.measures.options import Options
from scripts.measures.processes import Memory, cpu_seconds_of, memory_of
from scripts.measures.stage import Stage
from scripts.measures.workers import bottleneck_of

MEGABYTE: Final = 1e6
KILOBYTE: Final = 1e3
PAUSE_TARGET: Final = Target(p99=10.0, max=50.0)
TO_DASHBOARD_TARGET: Final = Target(p99=300.0)
FULL: Final = "2"
COLLECTIONS: Final = "jtnt_gc_collections_total"
COLLECTING: Final = "jtnt_gc_seconds_total"
PAUSES: Final = "event loop, lateness"


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen of the hub from the beginning to the end of a window."""

    seconds: float
    cpu_seconds: float
    before: Series
    after: Series
    memory: Memory
    fleet: Sequence[Counted]
    watchers: Sequence[Counted]
    was_asked_to_collect: bool

    @property
    def full_collections(self) -> int:
        return int(change(self.before, self.after, COLLECTIONS, FULL))


async def measure(options: Options, stage: Stage) -> Sequence[Figure]:
    """Watch the loaded hub for a window that holds a full garbage collection."""
    window = await watch(options, stage)
    return [
        *memory_figures(options, stage, window),
        single(f"hub, CPU with {options.agents} agents", "% of a core", 100 * window.cpu_seconds / window.seconds),
        *pause_figures(window),
        *answer_figures(window),
    ]


async def watch(options: Options, stage: Stage) -> Window:
    """Look at both ends of the window; a hub that does not collect by itself until its middle is asked to."""
    hub = stage.hub
    await stage.fleet.begin()
    await stage.watchers.begin()
    before = await hub.metrics()
    began_at, cpu_began = time.perf_counter(), cpu_seconds_of(hub.pid)
    await asyncio.sleep(options.window_seconds / 2)
    is_asked = not change(before, await hub.metrics(), COLLECTIONS, FULL)
    if is_asked:
        os.kill(hub.pid, signal.SIGUSR2)
    await asyncio.sleep(options.window_seconds / 2)
    seconds, cpu_seconds = time.perf_counter() - began_at, cpu_seconds_of(hub.pid) - cpu_began
    return Window(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        before=before,
        after=await hub.metrics(),
        memory=memory_of(hub.pid),
        fleet=await stage.fleet.finish(),
        watchers=await stage.watchers.finish(),
        was_asked_to_collect=is_asked,
    )


def growth_of(before: Memory, after: Memory, count: int) -> float:
    """Return the private memory that a connection took, in KB."""
    return (after.private_bytes - before.private_bytes) / count / KILOBYTE


def memory_figures(options: Options, stage: Stage, window: Window) -> Sequence[Figure]:
    looks = (
        ("idle", stage.idle),
        (f"{options.agents} agents", stage.connected),
        (f"{options.agents} agents, {options.dashboards} dashboards, after the window", window.memory),
    )
    growth = growth_of(stage.idle, stage.connected, options.agents)
    return [
        *(single(f"hub, RSS, {when}", "MB", memory.rss_bytes / MEGABYTE) for when, memory in looks),
        *(single(f"hub, private memory, {when}", "MB", memory.private_bytes / MEGABYTE) for when, memory in looks),
        single("hub, private memory an agent", "KB", growth, note=f"{options.agents} agents less idle"),
    ]


def pause_figures(window: Window) -> Sequence[Figure]:
    if not window.full_collections:
        return [void(PAUSES, "ms", PAUSE_TARGET, "no full garbage collection fell into the window")]
    mean_ms = 1000 * change(window.before, window.after, COLLECTING, FULL) / window.full_collections
    note = f"{window.full_collections} in the window{' (asked for)' if window.was_asked_to_collect else ''}"
    return [
        at_least(pauses(window.before, window.after, PAUSES, PAUSE_TARGET), mean_ms),
        single("event loop, a full garbage collection", "ms", mean_ms, note=note),
    ]


def at_least(lateness: Figure, collection_ms: float) -> Figure:
    """Return the loop's lateness with a known pause in it: ten looks a second see only the end of one, or nothing."""
    if lateness.is_void:
        return lateness
    return msgspec.structs.replace(lateness, max=max(lateness.max or 0.0, collection_ms))


def answer_figures(window: Window) -> Sequence[Figure]:
    """Return the delays that agents and dashboards saw; void when the load was not what it should have been."""
    sent, answered = sum(seen.sent for seen in window.fleet), sum(seen.answered for seen in window.fleet)
    note = f"{answered / window.seconds:.0f} frames/s; {sent - answered} on their way at the end"
    problems = sum((Counter(seen.problems) for seen in (*window.fleet, *window.watchers)), Counter[str]())
    for problem, count in problems.most_common(3):
        note += f"; {count} times {problem}"
    to_dashboard = [delay for seen in window.watchers for delay in seen.delays_ms]
    found = [
        spread(
            "sample frame → acknowledged", "ms", (delay for seen in window.fleet for delay in seen.delays_ms), note=note
        ),
        spread("sample taken → dashboard", "ms", to_dashboard, TO_DASHBOARD_TARGET, "with a tick of 200 ms"),
    ]
    why = bottleneck_of([*window.fleet, *window.watchers])
    return [void(figure.name, figure.unit, figure.target, why) for figure in found] if why else found
