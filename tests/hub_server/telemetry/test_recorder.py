"""Every sample is stored once and acknowledged after its commit, whatever is repeated, lost or killed."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.telemetry import worker
from hub_server.telemetry.engine import BACKFILL_CREDITS, CHARS_A_SAMPLE, COMMIT_SECONDS_MAX, WAITING_SAMPLES_MAX
from hub_server.telemetry.worker import BATCH_SAMPLES_MAX
from protocol.enumerations import Lane
from protocol.limits import FRAME_MAX_BYTES, SAMPLES_PER_FRAME_MAX, STREAM_CREDITS
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import (
    DAY_MS,
    NOW_MS,
    RAW_DAYS,
    Hub,
    acks,
    acks_in,
    frame_of,
    metrics,
    received,
    sample,
)
from tests.hub_server.telemetry.memory_store import MemoryStore


async def test_frames_of_one_stream_are_acknowledged_together(hub: Hub, deliveries: Subscription) -> None:
    await hub.record("a1", metrics(1, 2), metrics(4), metrics(3))
    [ack] = await acks(deliveries)
    assert (ack.epoch, ack.lane, ack.ranges, ack.credits) == (7, Lane.LIVE, [(1, 4)], STREAM_CREDITS)
    assert hub.values() == [1, 2, 3, 4]
    assert hub.store.commits == [4]


async def test_lanes_epochs_and_agents_are_acknowledged_apart(hub: Hub, deliveries: Subscription) -> None:
    frames = [
        received("a1", metrics(1)),
        received("a1", metrics(1, lane=Lane.BACKFILL)),
        received("a2", metrics(1)),
        received("a2", metrics(1, epoch=8)),
    ]
    await hub.recorder.record(frames)
    told = [(ack.lane, ack.epoch, ack.credits) for ack in await acks(deliveries)]
    live = (Lane.LIVE, 7, STREAM_CREDITS)
    assert told == [live, (Lane.BACKFILL, 7, BACKFILL_CREDITS), live, (Lane.LIVE, 8, STREAM_CREDITS)]
    assert len(hub.store.samples) == 4


async def test_a_repeated_sample_is_acknowledged_again_and_not_stored_again(hub: Hub, deliveries: Subscription) -> None:
    await hub.record("a1", metrics(1, 2))
    await hub.record("a1", metrics(2, 3))
    assert [ack.ranges for ack in await acks(deliveries)] == [[(1, 2)], [(2, 3)]]
    assert hub.values() == [1, 2, 3]
    assert (hub.recorder.stored_samples, hub.recorder.duplicate_samples, hub.recorder.commits) == (3, 1, 2)


async def test_a_frame_with_gaps_and_doubles_is_told_as_it_is(hub: Hub, deliveries: Subscription) -> None:
    await hub.record("a1", metrics(5, 5, 7), metrics(9, 8))
    [ack] = await acks(deliveries)
    assert ack.ranges == [(5, 5), (7, 9)]
    assert hub.values() == [5, 7, 8, 9]


async def test_a_hub_killed_between_commit_and_acknowledgement_does_not_store_twice(hub: Hub) -> None:
    await hub.record("a1", metrics(1, 2))
    hub = await hub.restarted()
    assert hub.telemetry.acknowledged("a1")["live"].ranges == [(1, 2)]
    await hub.record("a1", metrics(1, 2, 3))
    assert hub.values() == [1, 2, 3]
    assert hub.telemetry.sample_count("a1") == 3


sends = st.tuples(
    st.sampled_from([11, 5, 99]), st.sampled_from(Lane), st.lists(st.integers(1, 12), min_size=1, max_size=6)
)
batches = st.lists(st.one_of(st.none(), st.lists(sends, min_size=1, max_size=4)), min_size=1, max_size=8)


@settings(deadline=None)
@given(script=batches, data=st.data())
async def test_no_sequence_is_ever_stored_twice(
    script: list[list[tuple[int, Lane, list[int]]] | None], data: st.DataObject
) -> None:
    """Batches with repetitions, any order, three epochs and two lanes; None is a kill -9 with the answers lost."""
    agent_id, bus = str(uuid.uuid4()), InProcessBus()
    hub = Hub(MemoryStore(), bus, FakeClock())
    sent: set[tuple[int, str, int]] = set()
    for batch in script:
        if batch is None:
            hub = await hub.restarted()
            continue
        sent.update((epoch, lane.value, seq) for epoch, lane, seqs in batch for seq in seqs)
        hub.store.failures = data.draw(st.integers(0, 1))
        hub.store.fails_after_commit = data.draw(st.booleans())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker, "RETRY_FIRST_SECONDS", 0.0)
            await hub.record(agent_id, *(metrics(*seqs, epoch=epoch, lane=lane) for epoch, lane, seqs in batch))
    assert {(key.epoch, key.stream, seq) for key, seq in hub.store.samples} == sent  # the store refuses doubles
    assert hub.telemetry.sample_count(agent_id) == len(sent)


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_failed_commit_is_tried_again_and_nothing_is_acknowledged_before(
    hub: Hub, deliveries: Subscription, *, after_commit: bool
) -> None:
    hub.store.failures, hub.store.fails_after_commit = 2, after_commit
    await hub.record("a1", metrics(1, 2))
    assert hub.recorder.failed_commits == (1 if after_commit else 2)
    [ack] = await acks(deliveries)
    assert ack.ranges == [(1, 2)]
    assert hub.values() == [1, 2]


async def test_nothing_is_acknowledged_while_the_store_is_away(hub: Hub, deliveries: Subscription) -> None:
    hub.store.failures = 10_000
    with suppress(TimeoutError):
        async with asyncio.timeout(0.25):
            await hub.record("a1", metrics(1))
    assert hub.recorder.failed_commits >= 2
    assert not deliveries.buffered
    assert hub.telemetry.sample_count("a1") == 0


async def test_a_frame_that_the_store_refuses_harms_no_other(hub: Hub, deliveries: Subscription) -> None:
    hub.store.refuses = "poison"
    poison = frame_of(sample(1, kind="poison"))
    frames = [received(f"a{number}", poison if number == 5 else metrics(1)) for number in range(16)]
    await hub.recorder.record(frames)
    told = [event.agent_id for event in await deliveries.batch(100)]
    assert sorted(told) == sorted(f"a{number}" for number in range(16) if number != 5)
    assert hub.recorder.refused_frames == 1
    assert len(hub.store.samples) == 15
    assert len(hub.store.commits) <= 4, "halves, not frame by frame"


async def test_the_recorder_stores_what_the_service_receives(hub: Hub, deliveries: Subscription) -> None:
    async with hub.recording():
        assert hub.telemetry.receive("o1", "a1", metrics(1, 2))
        [ack] = acks_in(await deliveries.batch(10))
        assert hub.telemetry.receive("o1", "a1", metrics(3))
        [again] = acks_in(await deliveries.batch(10))
    assert (ack.ranges, ack.credits) == ([(1, 2)], STREAM_CREDITS)
    assert (again.ranges, again.credits) == ([(3, 3)], STREAM_CREDITS)
    assert hub.telemetry.pressure.waiting_samples == 0


async def test_frames_gather_while_a_commit_lasts_and_are_stored_together(hub: Hub, deliveries: Subscription) -> None:
    hub.store.open_gate.clear()
    async with hub.recording():
        hub.telemetry.receive("o1", "a0", metrics(1))
        await hub.store.adding.wait()
        for number in range(1, 301):
            assert hub.telemetry.receive("o1", f"a{number}", metrics(1))
        assert not deliveries.buffered
        hub.store.open_gate.set()
        while hub.store.commits != [1, 300]:
            await deliveries.batch(1000)


async def test_a_commit_is_bounded_in_samples(
    hub: Hub, deliveries: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GATHER_SECONDS", 0.0)
    async with hub.recording():
        for number in range(60):
            hub.telemetry.receive("o1", f"a{number}", metrics(*range(1, SAMPLES_PER_FRAME_MAX + 1)))
        while sum(hub.store.commits) < 60 * SAMPLES_PER_FRAME_MAX:
            await deliveries.batch(1000)
    assert max(hub.store.commits) == BATCH_SAMPLES_MAX


async def test_a_store_that_is_behind_takes_no_more_and_the_newest_values_stay(hub: Hub, bus: InProcessBus) -> None:
    with bus.subscribe(frozenset({"telemetry"}), name="recorder", capacity=10**6, overflow=Overflow.REFUSE):
        full = metrics(*range(1, SAMPLES_PER_FRAME_MAX + 1))
        taken = 0
        while hub.telemetry.receive("o1", "a1", full):
            taken += SAMPLES_PER_FRAME_MAX
            assert taken <= WAITING_SAMPLES_MAX
        assert taken > WAITING_SAMPLES_MAX - SAMPLES_PER_FRAME_MAX
        assert not hub.telemetry.receive("o1", "a2", full)
    assert hub.telemetry.newest("a2") == {}


async def test_long_samples_count_for_more_while_they_wait(hub: Hub, deliveries: Subscription) -> None:
    long = frame_of(sample(1, note="x" * FRAME_MAX_BYTES))
    hub.store.open_gate.clear()
    async with hub.recording():
        await asyncio.sleep(0)
        taken = 0
        while hub.telemetry.receive("o1", "a1", long):
            taken += 1
            assert taken * FRAME_MAX_BYTES <= (WAITING_SAMPLES_MAX + SAMPLES_PER_FRAME_MAX) * CHARS_A_SAMPLE
        assert taken > 100
        hub.store.open_gate.set()
        while hub.telemetry.pressure.waiting_samples:
            await deliveries.batch(1000)
    assert sum(hub.store.commits) == 1


async def test_credits_are_withheld_from_history_while_a_commit_lasts_and_come_back_with_the_next(
    hub: Hub, deliveries: Subscription, clock: FakeClock
) -> None:
    hub.store.open_gate.clear()
    history = metrics(1, lane=Lane.BACKFILL)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hub.recorder.record([received("a1", history), received("a1", metrics(1))]))
        await hub.store.adding.wait()
        clock.advance(COMMIT_SECONDS_MAX)
        assert [hub.telemetry.credits(lane) for lane in (Lane.LIVE, Lane.BACKFILL)] == [1, 0]
        hub.store.open_gate.set()
    assert [(ack.lane, ack.credits) for ack in await acks(deliveries)] == [(Lane.BACKFILL, 0), (Lane.LIVE, 1)]
    await hub.record("a2", metrics(1))
    back = [(ack.lane, ack.ranges, ack.credits) for ack in await acks(deliveries)]
    assert back == [(Lane.LIVE, [(1, 1)], STREAM_CREDITS), (Lane.BACKFILL, [], BACKFILL_CREDITS)]
    await hub.record("a2", metrics(2))
    assert len(await acks(deliveries)) == 1, "credits are given back once"


async def test_a_deleted_agents_late_frames_are_not_stored(hub: Hub, deliveries: Subscription) -> None:
    hub.telemetry.forget("a1")
    await hub.record("a1", metrics(1))
    assert hub.store.samples == {}
    assert not deliveries.buffered


async def test_samples_older_than_they_are_kept_are_acknowledged_and_not_stored(
    hub: Hub, deliveries: Subscription
) -> None:
    old = sample(1, ts=NOW_MS - RAW_DAYS * DAY_MS - 1)
    young = sample(2, ts=NOW_MS - RAW_DAYS * DAY_MS)
    await hub.record("a1", frame_of(old, young, lane=Lane.BACKFILL))
    await hub.record("a1", frame_of(old, lane=Lane.BACKFILL, epoch=8))
    assert [ack.ranges for ack in await acks(deliveries)] == [[(1, 2)], [(1, 1)]]
    assert hub.values() == [2]
    assert (hub.recorder.too_old_samples, hub.recorder.stored_samples, hub.store.commits) == (2, 1, [1])


async def test_commit_times_are_measured(hub: Hub, clock: FakeClock) -> None:
    assert (hub.recorder.last_commit_seconds, hub.recorder.commit_seconds(0.99)) == (0.0, 0.0)
    for seq, seconds in enumerate((0.5, 0.25, 3.0, 0.25), start=1):
        hub.store.adding.clear()
        hub.store.open_gate.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hub.record("a1", metrics(seq)))
            await hub.store.adding.wait()
            clock.advance(seconds)
            hub.store.open_gate.set()
    assert hub.recorder.last_commit_seconds == 0.25
    assert [hub.recorder.commit_seconds(share) for share in (0.5, 0.99)] == [0.5, 3.0]
