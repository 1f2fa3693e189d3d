"""What the hub says of itself at `/metrics`, and how it changed over a window."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from hub_server.bench.figures import Figure, Target, void

_SERIES: Final = re.compile(r'^(\w+)(?:\{(?:\w+="([^"]*)")?\})? (\S+)$', re.MULTILINE)
LAG: Final = "jtnt_loop_lag_seconds_bucket"
MILLISECONDS: Final = 1000
Series = Mapping[tuple[str, str], float]
"""Value by name and value of the one label, "" where there is none."""


def series_in(text: str) -> Series:
    """Return the values of Prometheus text."""
    return {(name, label): float(value) for name, label, value in _SERIES.findall(text)}


def change(before: Series, after: Series, name: str, label: str = "") -> float:
    return after.get((name, label), 0.0) - before.get((name, label), 0.0)


def pauses(before: Series, after: Series, name: str, target: Target) -> Figure:
    """Return the loop's lateness over a window in ms: for each share the upper bound of the bucket that holds it."""
    bounds = sorted((float(label), label) for series, label in after if series == LAG)
    cumulative = [(bound, change(before, after, LAG, label)) for bound, label in bounds]
    total = cumulative[-1][1] if cumulative else 0
    if not total:
        return void(name, "ms", target, "the hub counted no turns of its loop")

    def bound_of(rank: float) -> float:
        return next(bound for bound, count in cumulative if count >= rank) * MILLISECONDS

    return Figure(
        name=name,
        unit="ms",
        n=int(total),
        p50=bound_of(math.ceil(0.5 * total)),
        p99=bound_of(math.ceil(0.99 * total)),
        max=bound_of(total),
        target=target,
        note="upper bounds of buckets, and the collection",
    )
