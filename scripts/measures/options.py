"""How large a run is."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

AGENTS_PER_PROCESS: Final = 2500
CONNECTS_PER_SECOND: Final = 100.0


@dataclass(frozen=True, slots=True)
class Options:
    """`folder` is the run's own and is deleted after it; `cache` stays. Windows and pauses in seconds.

    `settle_seconds`: from the last connection to the look at memory, so that every agent has spoken.
    `command_pause_seconds`: between two commands: a command makes its agent say four frames, and the hub slows an agent
    down that says more than FRAMES_PER_SECOND.
    `sample_seconds` 0 leaves the samples' interval to the hub.
    """

    folder: Path
    cache: Path
    agents: int = 1000
    dashboards: int = 20
    window_seconds: float = 120.0
    settle_seconds: float = 15.0
    sample_seconds: float = 0.0
    starts: int = 5
    commands: int = 200
    command_pause_seconds: float = 0.3
    with_peers: bool = True

    @property
    def shares(self) -> list[tuple[int, int]]:
        """Return the first agent and the number of agents of each load process."""
        processes = min(len(os.sched_getaffinity(0)), 1 + (self.agents - 1) // AGENTS_PER_PROCESS)
        bounds = [self.agents * index // processes for index in range(processes + 1)]
        return [(low, high - low) for low, high in itertools.pairwise(bounds)]


def quick(folder: Path, cache: Path) -> Options:
    """Return a run that only shows that everything works; its figures mean nothing."""
    return Options(
        folder=folder,
        cache=cache,
        agents=8,
        dashboards=4,
        window_seconds=1.0,
        settle_seconds=0.3,
        sample_seconds=0.4,
        starts=1,
        commands=5,
        command_pause_seconds=0.0,
        with_peers=False,
    )
