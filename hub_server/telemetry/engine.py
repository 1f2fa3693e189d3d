"""How many frames agents may send. Pure."""

from __future__ import annotations

from math import ceil
from typing import Final

from hub_server.telemetry.model import Load
from protocol.enumerations import Lane
from protocol.limits import STREAM_CREDITS

WAITING_SAMPLES_MAX: Final = 32_768
"""Samples in memory on their way to the store; beyond them frames wait in their sessions."""
CHARS_A_SAMPLE: Final = 2048
"""So much text of a frame counts as a sample: most have less than half of it, one may fill a whole frame."""
COMMIT_SECONDS_MAX: Final = 2.0
LIVE_FALLS_FROM: Final = 0.25
LIVE_LEAST_AT: Final = 0.75
BACKFILL_FALLS_FROM: Final = 0.1
BACKFILL_LEAST_AT: Final = 0.5
BACKFILL_CREDITS: Final = 2
"""History is in full frames: what a fleet sends at once after an outage must fit into the hub's memory."""


def weight_of(samples: int, size_chars: int) -> int:
    """Return as how many samples a frame counts while it waits; never more than a frame may have."""
    return max(samples, size_chars // CHARS_A_SAMPLE)


def credits_of(lane: Lane, load: Load) -> int:
    """Return how many frames of `lane` an agent may have in flight.

    All while the store keeps up; then fewer, history before live samples: history none, live samples one at a time.
    """
    pressure = max(load.waiting_samples / WAITING_SAMPLES_MAX, load.commit_seconds / COMMIT_SECONDS_MAX)
    if lane is Lane.LIVE:
        return max(1, _falling(STREAM_CREDITS, pressure, LIVE_FALLS_FROM, LIVE_LEAST_AT))
    return _falling(BACKFILL_CREDITS, pressure, BACKFILL_FALLS_FROM, BACKFILL_LEAST_AT)


def _falling(full: int, pressure: float, falls_from: float, none_at: float) -> int:
    """Return `full` up to `falls_from`, then less and less down to 0 at `none_at`."""
    share = (none_at - pressure) / (none_at - falls_from)
    return ceil(full * min(1.0, max(0.0, share)))
