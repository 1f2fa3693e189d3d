"""The history that the bench writes into a store before it asks: every sample once, in order, and found again."""

from pathlib import Path

import pytest

from hub_server.telemetry.day_files.folder import DayFiles
from scripts.measures.history import HOUR_MS, SAMPLE_MS, Cost, Machine, Period, batches, cost, pack_all

DAY = 20_000 * 24 * HOUR_MS


def test_batches_hold_each_sample_of_the_hour_once_with_their_machines() -> None:
    machines = [Machine("org", f"agent-{number}", number) for number in range(30)]
    period = Period(machines, DAY, DAY + HOUR_MS, SAMPLE_MS)
    seen = list(batches(period, DAY, DAY + HOUR_MS))
    assert len(seen) > 1
    assert [machine for _, of in seen for machine in of] == machines
    for samples, of in seen:
        assert {sample.key for sample in samples} == {machine.key for machine in of}
    times = [sample.ts_ms for samples, _ in seen for sample in samples if sample.key == machines[0].key]
    assert times == list(range(DAY, DAY + HOUR_MS, SAMPLE_MS))
    assert list(machines[0].ranges.ranges) == [(1, len(times))]


async def test_what_was_written_and_packed_is_in_the_store(tmp_path: Path) -> None:
    machine = Machine("org", "agent", 1)
    store = DayFiles(folder=tmp_path / "metrics")
    await store.open()
    try:
        for samples, _ in batches(Period([machine], DAY, DAY + HOUR_MS, SAMPLE_MS), DAY, DAY + HOUR_MS):
            await store.add(samples, [machine.ranges])
        await pack_all(store, DAY + 2 * HOUR_MS)
        found = await store.raw("org", "agent", "system", ["cpu_percent"], DAY, DAY + HOUR_MS)
        assert len(found.timestamps) == HOUR_MS // SAMPLE_MS
        assert store.figures().hot_samples == 0
    finally:
        await store.close()


async def test_the_cost_of_a_sample_is_that_of_storing_and_of_packing_it(tmp_path: Path) -> None:
    store = DayFiles(folder=tmp_path / "metrics")
    await store.open()
    try:
        costs = await cost(store, Cost(store="", samples=2000, agents=10))
    finally:
        await store.close()
    assert costs.samples == 2000
    assert costs.add_cpu_us > 0
    assert costs.pack_cpu_us > 0
    assert costs.packed_bytes == pytest.approx(20, abs=15)
