"""What a whole fleet and its dashboards cost the hub, and how the hub answers meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Final

from hub_server.bench.figures import Figure, Target, single, spread
from hub_server.bench.muster import Enrolled
from hub_server.bench.orders import Counted
from hub_server.bench.steady import (
    MEGABYTE,
    Window,
    acknowledged,
    growth_of,
    pause_figures,
    problems_of,
    unless_late,
    watch,
)
from scripts.measures.options import Options
from scripts.measures.stage import Stage

PROMISED_AGENTS: Final = 10_000
CPU_TARGET_PERCENT: Final = 25.0
TO_DASHBOARD_TARGET: Final = Target(p99=300.0)
ALERT_TARGET: Final = Target(p99=50.0)


async def measure(options: Options, stage: Stage) -> Sequence[Figure]:
    """Watch the loaded hub for a window that holds a full garbage collection."""
    hub = stage.hub

    async def collect() -> None:
        os.kill(hub.pid, signal.SIGUSR2)

    await stage.watchers.begin()
    window = await watch(hub, stage.fleet, options.window_seconds, collect)
    watchers = await stage.watchers.finish()
    return [
        *memory_figures(options, stage, window),
        single(f"hub, CPU with {options.agents} agents", "% of a core", window.cpu_percent, cpu_target(options)),
        *pause_figures(window),
        acknowledged(window),
        *dashboard_figures(window, watchers),
    ]


def cpu_target(options: Options) -> float | None:
    """Return what was promised for the whole fleet; a smaller one has the same fixed costs and no promise."""
    return CPU_TARGET_PERCENT if options.agents >= PROMISED_AGENTS else None


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


def dashboard_figures(window: Window, watchers: Sequence[Counted]) -> Sequence[Figure]:
    """Return how late dashboards saw what happened; void when the load was not what it should have been."""
    load = [*window.fleet, *watchers]
    samples = (delay for seen in watchers for delay in seen.delays_ms)
    alerts = (delay for seen in watchers for delay in seen.alert_delays_ms)
    note = f"with a tick of 200 ms{problems_of(watchers)}"
    return [
        unless_late(spread("sample taken → dashboard", "ms", samples, TO_DASHBOARD_TARGET, note), load),
        unless_late(spread("alert opened → dashboard", "ms", alerts, ALERT_TARGET), load),
    ]


def enrollment_figures(fleet: Enrolled) -> Sequence[Figure]:
    note = f"{fleet.count} agents in {fleet.took_seconds:.0f} s, several at a time"
    return [
        single("machines enrolled", "a second", fleet.count / fleet.took_seconds, note=note),
        single("hub, CPU an enrollment", "ms", 1000 * fleet.cpu_seconds / fleet.count),
    ]
