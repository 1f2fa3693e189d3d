"""What closing an hour takes while it is at it."""

from __future__ import annotations

import tracemalloc

from hub_server.telemetry.day_files.packer import CLOSED_AT_ONCE
from tests.hub_server.telemetry.contract.builders import HOUR_MS, NOON_MS, Shelf, sample

SAMPLES = 180
METRICS = 8
VALUE_BYTES = 32
"""A number and the place it has in a list."""


async def test_closing_an_hour_holds_the_samples_of_one_series_at_a_time(shelf: Shelf) -> None:
    """Memory that packing ever took stays with the hub."""
    for agent in range(CLOSED_AT_ONCE):
        values = {f"metric_{number}": 0.5 + agent for number in range(METRICS)}
        await shelf.add(
            *(sample(seq, agent=f"a{agent}", data={**values, "metric_0": seq / 7}) for seq in range(SAMPLES))
        )
    await shelf.pack(NOON_MS + HOUR_MS - 1)
    tracemalloc.start()
    try:
        assert await shelf.pack(NOON_MS + HOUR_MS + HOUR_MS // 2) == CLOSED_AT_ONCE * SAMPLES
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < CLOSED_AT_ONCE * SAMPLES * METRICS * VALUE_BYTES / 2, peak_bytes
