"""`jtnt-hub bench`: a hub of its own and simulated agents on the user's machine, and what they showed. Linux only."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct

from hub_server.bench import intake
from hub_server.bench.figures import Figure, Target, single, spread
from hub_server.bench.hub import Hub
from hub_server.bench.machine import Quiet, pace_ms, this_machine
from hub_server.bench.muster import connected, enroll, files_needed
from hub_server.bench.orders import Connect
from hub_server.bench.processes import memory_of, raise_file_limit
from hub_server.bench.report import Row, Run
from hub_server.bench.steady import MEGABYTE, acknowledged, growth_of, pause_figures, watch

START_TARGET: Final = Target(p50=1.5)
CONNECTS_PER_SECOND: Final = 100.0
SETTLE_SECONDS: Final = 5.0
PREFIX: Final = "jtnt-bench-"
SAMPLE_SECONDS: Final = 10.0
PRESSED_SECONDS_MAX: Final = 60.0
"""A machine that is pressed for longer sends more than its hour may have: that would be told as lost."""


class Size(Struct, frozen=True):
    """How much is measured. `seconds`: of each of the three windows, `pressed_seconds` of the two at full pressure."""

    agents: int
    seconds: float

    @property
    def pressed_seconds(self) -> float:
        return min(self.seconds, PRESSED_SECONDS_MAX)


def measured(size: Size, arguments: Sequence[str], say: Callable[[str], None], folder: Path | None = None) -> Run:
    """Measure in a folder of its own inside `folder`, which is deleted after it. Raises BenchFailed."""
    raise_file_limit(files_needed(size.agents))
    quiet, began_at, at = Quiet(), time.monotonic(), datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as own:
        figures = asyncio.run(_figures(size, Path(own), say))
    return Run(
        at=at,
        command=list(arguments),
        machine=this_machine(),
        others_share=quiet.others_share(),
        pace_ms=(quiet.pace_before_ms, pace_ms()),
        seconds=time.monotonic() - began_at,
        rows=[Row(figure, figure.verdict) for figure in figures],
    )


async def _figures(size: Size, folder: Path, say: Callable[[str], None]) -> Sequence[Figure]:
    hub = Hub(folder / "hub")
    try:
        say("starting a hub")
        start_seconds = [await hub.start()]
        say(f"enrolling {size.agents} simulated agents")
        fleet = await enroll(hub, folder / "identities", size.agents)
        await hub.stop()
        start_seconds.append(await hub.start())
        say(f"watching it with all of them connected, {size.seconds:g} s")
        steady = await _steady(hub, fleet.identities, size)
        say(f"pressing it with samples, twice {size.pressed_seconds:g} s")
        pressed = await intake.measure(hub, fleet.identities, size.agents, seconds=size.pressed_seconds, runs=1)
        return [
            spread("hub start → /readyz", "s", start_seconds[1:], START_TARGET),
            single("machines enrolled", "a second", fleet.count / fleet.took_seconds),
            *steady,
            *pressed,
        ]
    finally:
        await hub.stop()


async def _steady(hub: Hub, identities: Path, size: Size) -> Sequence[Figure]:
    """Watch the hub while every agent sends a sample each 10 s."""
    idle = memory_of(hub.pid)
    plan = Connect(
        port=hub.agent_port,
        folder=str(identities),
        first=0,
        count=size.agents,
        per_second=CONNECTS_PER_SECOND,
        sample_seconds=SAMPLE_SECONDS,
    )
    async with connected(plan) as agents:
        await asyncio.sleep(min(size.seconds, SETTLE_SECONDS))
        grown = memory_of(hub.pid)
        window = await watch(hub, agents, size.seconds)
    return [
        single("hub, private memory, idle", "MB", idle.private_bytes / MEGABYTE),
        single("hub, private memory an agent", "KB", growth_of(idle, grown, size.agents), note="connected less idle"),
        single(f"hub, CPU with {size.agents} agents", "% of a core", window.cpu_percent),
        *pause_figures(window),
        acknowledged(window),
    ]
