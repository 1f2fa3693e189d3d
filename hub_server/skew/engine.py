"""The offset of an agent's clock from what its frames say. Pure.

A frame that says 12:00:00 and is read at 12:00:03 came from a clock that is 3 s behind, or took 3 s. The monotonic
clocks of both sides tell one from the other: against each other they move only by the way, so that the frame which was
least late of the last ones is believed. A clock that is set moves against its own monotonic one: what was measured
before says nothing any more.
"""

from __future__ import annotations

from hub_server.skew.model import (
    CORRECTED_FROM_MS,
    FINE_BELOW_MS,
    JUMP_MS,
    LATE_MS,
    SKEWED_ABOVE_MS,
    WINDOW,
    Estimate,
    Measurement,
    Reading,
)


def estimated(before: Estimate | None, reading: Reading) -> Estimate:
    """Return the estimate with `reading`."""
    measurement = Measurement(
        lateness_ms=reading.hub_monotonic_ms - reading.agent_monotonic_ms,
        offset_ms=reading.agent_ms - reading.hub_ms,
    )
    walls_ms = (reading.agent_ms - reading.agent_monotonic_ms) - (reading.hub_ms - reading.hub_monotonic_ms)
    if before is None or abs(walls_ms - before.walls_ms) > JUMP_MS:
        return Estimate((measurement,), walls_ms)
    return Estimate((*before.measurements[1 - WINDOW :], measurement), walls_ms)


def correction_ms(estimate: Estimate) -> int:
    """Return what is to be taken off the agent's times; 0 when its clock is right enough.

    A single frame that says the clock is a little behind may just as well have waited to be read.
    """
    offset_ms = estimate.offset_ms
    is_unproven = len(estimate.measurements) == 1 and -LATE_MS < offset_ms < 0
    return 0 if is_unproven or abs(offset_ms) < CORRECTED_FROM_MS else offset_ms


def is_skewed(offset_ms: int, *, was_skewed: bool) -> bool:
    """Tell whether somebody should set the clock right; between the two bounds it stays as it was."""
    if was_skewed:
        return abs(offset_ms) >= FINE_BELOW_MS
    return abs(offset_ms) > SKEWED_ABOVE_MS
