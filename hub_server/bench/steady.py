"""What a fleet that goes about its day costs the hub, and how the hub answers meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from hub_server.bench.exposition import Series, change, pauses
from hub_server.bench.figures import NO_TARGET, Figure, Target, single, spread, void
from hub_server.bench.hub import Hub
from hub_server.bench.orders import Counted
from hub_server.bench.processes import Memory, cpu_seconds_of, memory_of
from hub_server.bench.workers import Workers, bottleneck_of

MEGABYTE: Final = 1e6
KILOBYTE: Final = 1e3
PAUSE_TARGET: Final = Target(p99=10.0, max=50.0)
FULL: Final = "2"
COLLECTIONS: Final = "jtnt_gc_collections_total"
COLLECTING: Final = "jtnt_gc_seconds_total"
PAUSES: Final = "event loop, lateness"
WORST_PROBLEMS: Final = 3


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen of the hub from the beginning to the end of a window."""

    seconds: float
    cpu_seconds: float
    before: Series
    after: Series
    memory: Memory
    fleet: Sequence[Counted]
    was_asked_to_collect: bool

    @property
    def full_collections(self) -> int:
        return int(change(self.before, self.after, COLLECTIONS, FULL))

    @property
    def cpu_percent(self) -> float:
        return 100 * self.cpu_seconds / self.seconds


async def watch(
    hub: Hub, fleet: Workers, seconds: float, ask_to_collect: Callable[[], Awaitable[None]] | None = None
) -> Window:
    """Look at both ends of a window; a hub that has done no full collection by its middle is asked to, if it can be."""
    await fleet.begin()
    before = await hub.metrics()
    began_at, cpu_began = time.perf_counter(), cpu_seconds_of(hub.pid)
    await asyncio.sleep(seconds / 2)
    is_asked = False
    if ask_to_collect is not None and not change(before, await hub.metrics(), COLLECTIONS, FULL):
        is_asked = True
        await ask_to_collect()
    await asyncio.sleep(seconds / 2)
    took_seconds, cpu_seconds = time.perf_counter() - began_at, cpu_seconds_of(hub.pid) - cpu_began
    return Window(
        seconds=took_seconds,
        cpu_seconds=cpu_seconds,
        before=before,
        after=await hub.metrics(),
        memory=memory_of(hub.pid),
        fleet=await fleet.finish(),
        was_asked_to_collect=is_asked,
    )


def growth_of(before: Memory, after: Memory, count: int) -> float:
    """Return the private memory that a connection took, in KB."""
    return (after.private_bytes - before.private_bytes) / count / KILOBYTE


def pause_figures(window: Window) -> Sequence[Figure]:
    """Return how late the loop ran; void without a full collection, for the longest pause would be missing."""
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


def acknowledged(window: Window) -> Figure:
    """Return how long agents waited for what they sent; void when the load was not what it should have been."""
    sent, answered = sum(seen.sent for seen in window.fleet), sum(seen.answered for seen in window.fleet)
    note = f"{answered / window.seconds:.0f} frames/s; {sent - answered} on their way at the end"
    told = note + problems_of(window.fleet)
    delays_ms = (delay for seen in window.fleet for delay in seen.delays_ms)
    return unless_late(spread("sample frame → acknowledged", "ms", delays_ms, NO_TARGET, told), window.fleet)


def problems_of(reports: Sequence[Counted]) -> str:
    """Return what went wrong most often, to be put behind a note."""
    problems = sum((Counter(seen.problems) for seen in reports), Counter[str]())
    return "".join(f"; {count} times {problem}" for problem, count in problems.most_common(WORST_PROBLEMS))


def unless_late(figure: Figure, reports: Sequence[Counted]) -> Figure:
    """Return `figure`, or why it is void: the load generator was too slow."""
    why = bottleneck_of(reports)
    return void(figure.name, figure.unit, figure.target, why) if why else figure
