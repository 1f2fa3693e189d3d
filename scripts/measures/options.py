"""How large a run is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """`folder` is the run's own and is deleted after it; `cache` stays. Windows and pauses in seconds.

    `settle_seconds`: from a start, or a peer's last connection, to the look at what it costs.
    `introduction_seconds`: from the fleet's last connection, until every agent has sampled and described itself in a
    heartbeat: what the hub stores of a fleet's first words, three transactions an agent, is no part of its day.
    `command_pause_seconds`: between two commands: a command makes its agent say four frames, and the hub slows an agent
    down that says more than FRAMES_PER_SECOND.
    `sample_seconds` 0 leaves the samples' interval to the hub. `alarmed`: agents that cross a threshold now and then.
    `pressure_seconds`: each window of the intake at full pressure. `runs`: windows of the kinds whose times matter.
    `crowd`: dashboards on one view, for the fan-out, in the clear and with `crowd_by_tls` also by TLS.
    `history_agents` and `history_days`: whose samples, and for how long, fill the store for the queries; every agent
    has the last `recent_hours`.
    `store_samples`: those that are stored for the cost of one.
    """

    folder: Path
    cache: Path
    agents: int = 1000
    dashboards: int = 20
    window_seconds: float = 120.0
    settle_seconds: float = 15.0
    introduction_seconds: float = 45.0
    sample_seconds: float = 0.0
    starts: int = 5
    alarmed: int = 20
    runs: int = 3
    pressure_seconds: float = 10.0
    crowd: int = 200
    crowd_seconds: float = 6.0
    crowd_by_tls: bool = True
    history_agents: int = 50
    history_days: float = 7.0
    recent_hours: float = 1.0
    queries: int = 200
    store_samples: int = 1_000_000
    commands: int = 200
    command_pause_seconds: float = 0.3
    with_peers: bool = True


def quick(folder: Path, cache: Path) -> Options:
    """Return a run that only shows that everything works; its figures mean nothing."""
    return Options(
        folder=folder,
        cache=cache,
        agents=8,
        dashboards=4,
        window_seconds=1.0,
        settle_seconds=0.3,
        introduction_seconds=0.3,
        sample_seconds=0.2,
        starts=1,
        alarmed=2,
        runs=1,
        pressure_seconds=0.5,
        crowd=4,
        crowd_seconds=0.6,
        crowd_by_tls=False,
        history_agents=1,
        history_days=0.02,
        recent_hours=0.1,
        queries=3,
        store_samples=5000,
        commands=5,
        command_pause_seconds=0.0,
        with_peers=False,
    )
