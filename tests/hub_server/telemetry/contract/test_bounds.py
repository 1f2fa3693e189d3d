"""An hour that is beyond all bounds nevertheless, as one stored by two hubs, is closed without what is too much."""

from __future__ import annotations

import tracemalloc

from hub_server.telemetry.bounds import NAMES_PER_HOUR_MAX
from hub_server.telemetry.model import Resolution
from hub_server.telemetry.port import NewSample
from protocol.limits import METRIC_NAMES_MAX
from tests.hub_server.telemetry.contract.builders import Shelf, sample

SAMPLES = 150
FITTING = NAMES_PER_HOUR_MAX // METRIC_NAMES_MAX
CELL_BYTES = 8


def wide(seq: int, agent: str) -> NewSample:
    """A sample with as many names as it may have, none of which another one has."""
    return sample(seq, agent=agent, data={f"m{seq}_{number}": number for number in range(METRIC_NAMES_MAX)})


async def test_names_that_are_new_with_each_sample_cost_a_bounded_amount_and_nobody_else_anything(shelf: Shelf) -> None:
    for seq in range(1, SAMPLES + 1):
        await shelf.add(wide(seq, "a0"), sample(seq, agent="a1"))
    tracemalloc.start()
    try:
        assert await shelf.pack() > 0
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    table_bytes = SAMPLES * SAMPLES * METRIC_NAMES_MAX * CELL_BYTES
    assert peak_bytes < table_bytes / 2, peak_bytes
    for _ in range(2):
        assert len((await shelf.raw(agent="a0")).timestamps) == FITTING
        kept = await shelf.raw("m1_0", f"m{FITTING}_7", f"m{FITTING + 1}_0", agent="a0")
        assert [[value for value in column if value is not None] for column in kept.values.values()] == [[0], [7], []]
        assert await shelf.values("a1") == [float(seq) for seq in range(1, SAMPLES + 1)]
        [bucket] = (await shelf.gauge(Resolution.HOUR, agent="a1")).values()
        assert bucket[3] == SAMPLES
        assert shelf.store.figures().cut_hours == 1
        assert await shelf.pack() == 0
