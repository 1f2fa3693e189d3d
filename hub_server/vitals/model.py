"""How the hub itself is: its figures by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from protocol.limits import METRIC_NAMES_MAX

METRIC_TYPE: Final = "hub"
PREFIX: Final = "jtnt_"
_NO_NAME: Final = re.compile(r"[^a-z0-9]+")


def agent_id_of(hub_id: str) -> str:
    """Return the name under which a hub's figures are stored; no agent has such an id."""
    return f"hub:{hub_id}"


def figure_name(metric: str, labels: Mapping[str, str]) -> str:
    """Return one name for a labelled metric: `jtnt_bus_buffered{listener="live-feed"}` is `bus_buffered_live_feed`."""
    words = (metric.removeprefix(PREFIX), *labels.values())
    return "_".join(_NO_NAME.sub("_", word.casefold()).strip("_") for word in words if word)


def bounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the first METRIC_NAMES_MAX figures by name: as many as a sample may hold."""
    return {name: figures[name] for name in sorted(figures)[:METRIC_NAMES_MAX]}


def quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
