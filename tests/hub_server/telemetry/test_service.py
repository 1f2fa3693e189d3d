"""Newest values, times by the hub's clock, and what is acknowledged at the welcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.alerts.worker import newest_observations
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.events import MetricsReceived
from hub_server.telemetry.model import EPOCHS_KEPT, TYPES_PER_AGENT_MAX, Received, StreamKey
from hub_server.telemetry.service import CLOCK_AHEAD_TOLERATED_MS
from protocol.enumerations import Lane
from protocol.ranges import SequenceRanges
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import (
    DAY_MS,
    HOUR_MS,
    NOW_MS,
    ORGANISATION,
    Hub,
    frame_of,
    metrics,
    received,
    sample,
    waiting,
)
from tests.hub_server.telemetry.memory_store import MemoryStore


async def test_a_frame_that_comes_again_after_its_commit_is_history(hub: Hub, bus: InProcessBus) -> None:
    """Its acknowledgement was lost: it is acknowledged again, and raises nothing and replaces nothing."""
    await hub.record("a1", metrics(1))
    assert hub.telemetry.receive("o1", "a1", metrics(2))
    with bus.subscribe(frozenset({"telemetry"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as heard:
        assert hub.telemetry.receive("o1", "a1", metrics(1))
        [again] = await waiting(heard)
    assert isinstance(again, MetricsReceived)
    assert again.is_repeated
    assert newest_observations([again]) == []
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 2.0}


async def test_newest_values_survive_a_restart(hub: Hub) -> None:
    frame = frame_of(sample(1), sample(2, kind="security", firewall_enabled=True), sample(3))
    hub.telemetry.receive("o1", "a1", frame)
    await hub.recorder.record([received("a1", frame), received("a2", metrics(5))])
    before = hub.telemetry.newest("a1")
    assert before["system"].data == {"cpu_percent": 3.0}
    assert before["security"].data == {"firewall_enabled": True}
    restarted = await hub.restarted()
    assert restarted.telemetry.newest("a1") == before
    assert restarted.telemetry.newest("a2")["system"].data == {"cpu_percent": 5.0}
    assert restarted.telemetry.newest("nobody") == {}
    assert restarted.telemetry.owners() == [(ORGANISATION, "a1"), (ORGANISATION, "a2")]


def test_newest_values_are_listed_by_type(hub: Hub) -> None:
    hub.telemetry.receive(
        "o1", "a1", frame_of(sample(1, ts=NOW_MS - 7), sample(2, ts=NOW_MS - 5, kind="disk./", percent=4))
    )
    listed = [(each.metric_type, each.timestamp, each.metric_data) for each in hub.telemetry.newest_metrics("a1")]
    assert listed == [("disk./", NOW_MS - 5, {"percent": 4}), ("system", NOW_MS - 7, {"cpu_percent": 1.0})]


async def test_a_backfilled_sample_does_not_replace_a_newer_one(hub: Hub) -> None:
    hub.telemetry.receive("o1", "a1", frame_of(sample(9, ts=NOW_MS - 1000)))
    hub.telemetry.receive("o1", "a1", frame_of(sample(1, ts=NOW_MS - 9000), lane=Lane.BACKFILL))
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 9.0}
    hub.telemetry.receive("o1", "a1", frame_of(sample(2, ts=NOW_MS - 500), lane=Lane.BACKFILL))
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 2.0}


async def test_an_agent_cannot_fill_the_memory_with_metric_types(hub: Hub) -> None:
    frame = frame_of(*(sample(seq, kind=f"custom.{seq}") for seq in range(1, TYPES_PER_AGENT_MAX + 20)))
    hub.telemetry.receive("o1", "a1", frame)
    assert len(hub.telemetry.newest("a1")) == TYPES_PER_AGENT_MAX
    await hub.record("a1", frame)
    assert len((await hub.restarted()).telemetry.newest("a1")) == TYPES_PER_AGENT_MAX


async def test_samples_of_more_types_than_an_agent_may_have_are_taken_and_not_stored(
    hub: Hub, clock: FakeClock
) -> None:
    frame = frame_of(*(sample(seq, kind=f"t{seq}") for seq in range(1, TYPES_PER_AGENT_MAX + 3)))
    hub.telemetry.receive("o1", "a1", frame)
    await hub.recorder.record([received("a1", frame)])
    assert (hub.recorder.stored_samples, hub.recorder.too_many_samples) == (TYPES_PER_AGENT_MAX, 2)
    assert hub.telemetry.acknowledged("a1")["live"].ranges == [(1, TYPES_PER_AGENT_MAX + 2)]
    clock.advance(2 * 24 * 3600)
    later = frame_of(sample(99, kind="new disk", ts=NOW_MS + 2 * DAY_MS))
    hub.telemetry.receive("o1", "a1", later)
    assert "new disk" in hub.telemetry.newest("a1")
    assert len(hub.telemetry.newest("a1")) == TYPES_PER_AGENT_MAX


async def test_times_are_stored_and_shown_by_the_hubs_clock(
    store: MemoryStore, bus: InProcessBus, clock: FakeClock
) -> None:
    """Of a clock that is an hour ahead, and of one that is not; live and backfilled."""
    hub = Hub(store, bus, clock, correction_ms=lambda agent_id: HOUR_MS if agent_id == "ahead" else 0)
    hour_ago, now = sample(1, ts=NOW_MS), sample(2, ts=NOW_MS + HOUR_MS)
    async with hub.recording():
        with bus.subscribe(frozenset({"telemetry"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as heard:
            hub.telemetry.receive("o1", "ahead", frame_of(hour_ago, now))
            hub.telemetry.receive("o1", "ahead", frame_of(hour_ago, lane=Lane.BACKFILL))
            hub.telemetry.receive("o1", "right", frame_of(sample(1, ts=NOW_MS - 5)))
            events = [event for event in await waiting(heard) if isinstance(event, MetricsReceived)]
        await store.filled(4)
    assert [stored.ts_ms for stored in store.of("ahead")] == [NOW_MS - HOUR_MS, NOW_MS, NOW_MS - HOUR_MS]
    assert [stored.ts_ms for stored in store.of("right")] == [NOW_MS - 5]
    assert [each.ts for each in events[0].samples] == [NOW_MS - HOUR_MS, NOW_MS]
    assert hub.telemetry.newest("ahead")["system"].ts_ms == NOW_MS


async def test_a_sample_from_the_future_is_of_now(hub: Hub) -> None:
    ahead = NOW_MS + CLOCK_AHEAD_TOLERATED_MS
    async with hub.recording():
        hub.telemetry.receive("o1", "a1", frame_of(sample(1, ts=ahead), sample(2, ts=ahead + 1)))
        await hub.store.filled(2)
    assert [stored.ts_ms for stored in hub.store.of("a1")] == [ahead, NOW_MS]
    assert hub.telemetry.newest("a1")["system"].ts_ms == NOW_MS
    present = frame_of(sample(3, ts=NOW_MS - 5))
    hub.telemetry.receive("o1", "a1", present)
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 3.0}


async def test_welcome_acknowledges_the_epoch_in_use_of_each_stream(hub: Hub) -> None:
    for epoch in (900, 20, 300):
        await hub.record("a1", metrics(1, 2, epoch=epoch))
    await hub.record("a1", metrics(4, epoch=5, lane=Lane.BACKFILL))
    for telemetry in (hub.telemetry, (await hub.restarted()).telemetry):
        acks = telemetry.acknowledged("a1")
        assert {stream: (ack.epoch, ack.ranges) for stream, ack in acks.items()} == {
            "live": (300, [(1, 2)]),
            "backfill": (5, [(4, 4)]),
        }
        assert telemetry.sample_count("a1") == 7


async def test_only_the_epochs_used_last_are_kept(hub: Hub) -> None:
    for epoch in (60, 50, 40, 30, 20, 10):
        await hub.record("a1", metrics(1, epoch=epoch))
    for telemetry in (hub.telemetry, (await hub.restarted()).telemetry):
        assert telemetry.sample_count("a1") == EPOCHS_KEPT
        assert telemetry.acknowledged("a1")["live"].epoch == 10
    assert sorted(key.epoch for key in hub.store.ranges) == [10, 20, 30, 40]


async def test_an_epoch_in_use_again_is_not_the_one_that_is_dropped(hub: Hub) -> None:
    for epoch in (1, 2, 3, 4):
        await hub.record("a1", metrics(1, epoch=epoch))
    await hub.record("a1", metrics(2, epoch=1), metrics(2, epoch=5))
    assert sorted(key.epoch for key in hub.store.ranges) == [1, 3, 4, 5]


@given(puts=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=6, unique=True), max_size=8))
def test_what_is_dropped_from_memory_is_what_is_dropped_from_disk(puts: list[list[int]]) -> None:
    held, disk, order = Received(), set[int](), list[int]()
    for epochs in puts:
        keys = [StreamKey("a1", "live", epoch) for epoch in epochs]
        dropped = held.surplus(keys)
        disk = (disk | set(epochs)) - {key.epoch for key in dropped}
        for key in keys:
            held.put(key, SequenceRanges([(1, key.epoch)]))
            order = [epoch for epoch in order if epoch != key.epoch] + [key.epoch]
        assert disk == set(order[-EPOCHS_KEPT:])
        assert {epoch for epoch in range(1, 8) if held.of("a1", "live", epoch)} == disk
        assert held.in_use("a1")["live"][0] == order[-1]
        assert held.sample_count("a1") == sum(disk)


async def test_what_is_left_of_an_agent_is_deleted_and_nothing_comes_after_it(hub: Hub) -> None:
    await hub.record("a1", metrics(1), metrics(1, epoch=8))
    await hub.recorder.record([received("a2", metrics(1), organisation_id="other")])
    await hub.telemetry.purge("other", "a1")
    assert len(hub.store.samples) == 3, "only in its own organisation"
    await hub.telemetry.purge(ORGANISATION, "a1")
    await hub.record("a1", metrics(2))
    assert [key.agent_id for key, _ in hub.store.samples] == ["a2"]
    assert (hub.telemetry.sample_count("a1"), hub.telemetry.newest("a1")) == (0, {})


async def test_times_of_a_day_are_of_the_corrected_day(store: MemoryStore, bus: InProcessBus, clock: FakeClock) -> None:
    """A sample that is too old by its own clock and young by the hub's is stored."""
    hub = Hub(store, bus, clock, correction_ms=lambda _agent_id: -30 * DAY_MS)
    async with hub.recording():
        hub.telemetry.receive("o1", "a1", frame_of(sample(1, ts=NOW_MS - 30 * DAY_MS)))
        await store.filled(1)
    assert [stored.ts_ms for stored in store.of("a1")] == [NOW_MS]


@pytest.mark.parametrize("lane", list(Lane))
def test_a_hub_at_rest_gives_credits(hub: Hub, lane: Lane) -> None:
    assert hub.telemetry.credits(lane) > 0
