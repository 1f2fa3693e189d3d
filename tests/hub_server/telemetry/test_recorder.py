"""Every sample is stored once and acknowledged after its commit, whatever is repeated, lost or killed."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry.worker import BATCH_SAMPLES_MAX, Retention, waiting_frames
from protocol.enumerations import Lane
from protocol.frames import Metrics
from protocol.limits import STREAM_CREDITS
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import (
    NOW_MS,
    FailingDatabase,
    Hub,
    acks,
    acks_in,
    metrics,
    received,
    sample,
    stored_count,
    stored_values,
)

DAY_SECONDS = 24 * 3600


async def test_frames_of_one_stream_are_acknowledged_together(
    hub: Hub, organisation_id: str, deliveries: Subscription
) -> None:
    frames = [received(organisation_id, "a1", frame) for frame in (metrics(1, 2), metrics(4), metrics(3))]
    await hub.recorder.record(frames)
    [ack] = await acks(deliveries)
    assert (ack.epoch, ack.lane, ack.ranges, ack.credits) == (7, Lane.LIVE, [(1, 4)], STREAM_CREDITS)
    assert await stored_count(hub.database) == 4


async def test_lanes_and_agents_are_acknowledged_apart(
    hub: Hub, organisation_id: str, deliveries: Subscription
) -> None:
    frames = [
        received(organisation_id, "a1", metrics(1)),
        received(organisation_id, "a1", metrics(1, lane=Lane.BACKFILL)),
        received(organisation_id, "a2", metrics(1)),
        received(organisation_id, "a2", metrics(1, epoch=8)),
    ]
    await hub.recorder.record(frames)
    assert [ack.credits for ack in await acks(deliveries)] == [STREAM_CREDITS] * 4
    assert await stored_count(hub.database) == 4


async def test_a_repeated_sample_is_acknowledged_again_and_not_stored_again(
    hub: Hub, organisation_id: str, deliveries: Subscription
) -> None:
    await hub.recorder.record([received(organisation_id, "a1", metrics(1, 2))])
    await hub.recorder.record([received(organisation_id, "a1", metrics(2, 3))])
    assert [ack.ranges for ack in await acks(deliveries)] == [[(1, 2)], [(2, 3)]]
    assert await stored_values(hub.database, "a1") == [
        '{"cpu_percent":1.0}',
        '{"cpu_percent":2.0}',
        '{"cpu_percent":3.0}',
    ]


async def test_a_hub_killed_between_commit_and_acknowledgement_does_not_store_twice(
    hub: Hub, organisation_id: str
) -> None:
    await hub.recorder.record([received(organisation_id, "a1", metrics(1, 2))])
    hub = await hub.restarted()
    assert hub.telemetry.acknowledged("a1")["live"].ranges == [(1, 2)]
    await hub.recorder.record([received(organisation_id, "a1", metrics(1, 2, 3))])
    assert await stored_count(hub.database) == 3
    assert hub.telemetry.sample_count("a1") == 3


sends = st.tuples(
    st.sampled_from([11, 5, 99]), st.sampled_from(Lane), st.lists(st.integers(1, 12), min_size=1, max_size=6)
)
batches = st.lists(st.one_of(st.none(), st.lists(sends, min_size=1, max_size=4)), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=batches)
async def test_no_sequence_is_ever_stored_twice(
    hub: Hub, organisation_id: str, script: list[list[tuple[int, Lane, list[int]]] | None]
) -> None:
    """Batches with repetitions, any order, three epochs and two lanes; None is a kill -9 with the answers lost."""
    agent_id = str(uuid.uuid4())
    sent: set[tuple[int, str, int]] = set()
    for batch in script:
        if batch is None:
            hub = await hub.restarted()
            continue
        frames = []
        for epoch, lane, seqs in batch:
            sent.update((epoch, lane.value, seq) for seq in seqs)
            samples = [sample(seq, of=f"{epoch} {lane.value} {seq}") for seq in seqs]
            frames.append(received(organisation_id, agent_id, Metrics(epoch=epoch, lane=lane, samples=samples)))
        hub.clock.advance(1)
        await hub.recorder.record(frames)
    stored = [msgspec.json.decode(text)["of"] for text in await stored_values(hub.database, agent_id)]
    assert stored == sorted(f"{epoch} {lane} {seq}" for epoch, lane, seq in sent)
    assert hub.telemetry.sample_count(agent_id) == len(sent)


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_failed_commit_is_tried_again_and_nothing_is_acknowledged_before(
    hub: Hub, organisation_id: str, deliveries: Subscription, *, after_commit: bool
) -> None:
    failing = FailingDatabase(hub.database, failures=2, after_commit=after_commit)
    flaky = Hub(failing, hub.bus, hub.clock)
    await flaky.recorder.record([received(organisation_id, "a1", metrics(1, 2))])
    assert flaky.recorder.failed_commits == 2
    [ack] = await acks(deliveries)
    assert ack.ranges == [(1, 2)]
    assert await stored_count(hub.database) == 2


async def test_nothing_is_acknowledged_while_the_database_is_away(
    hub: Hub, organisation_id: str, deliveries: Subscription
) -> None:
    away = Hub(FailingDatabase(hub.database, failures=10_000, after_commit=False), hub.bus, hub.clock)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.25):
            await away.recorder.record([received(organisation_id, "a1", metrics(1))])
    assert away.recorder.failed_commits >= 2
    assert not deliveries.buffered
    assert away.telemetry.sample_count("a1") == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_frame_that_the_database_refuses_harms_no_other(
    hub: Hub, organisation_id: str, deliveries: Subscription
) -> None:
    poison = Metrics(epoch=7, lane=Lane.LIVE, samples=[sample(1, kind="nul\0")])
    frames = [received(organisation_id, agent_id, frame) for agent_id, frame in (("a1", metrics(1)), ("a2", poison))]
    await hub.recorder.record(frames)
    assert [ack.ranges for ack in await acks(deliveries)] == [[(1, 1)]]
    assert hub.recorder.refused_frames == 1
    assert await stored_count(hub.database) == 1


async def test_the_recorder_stores_what_the_service_receives(
    hub: Hub, organisation_id: str, deliveries: Subscription
) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.recorder.run())
        await asyncio.sleep(0)
        assert hub.telemetry.receive(organisation_id, "a1", metrics(1, 2))
        async with asyncio.timeout(30):
            [ack] = acks_in(await deliveries.batch(10))
        running.cancel()
    assert ack.ranges == [(1, 2)]
    assert ack.credits == STREAM_CREDITS


async def test_a_full_recorder_refuses_and_the_newest_values_stay(
    hub: Hub, organisation_id: str, bus: InProcessBus
) -> None:
    with bus.subscribe(frozenset({"telemetry"}), name="recorder", capacity=1, overflow=Overflow.REFUSE):
        assert hub.telemetry.receive(organisation_id, "a1", metrics(1))
        assert not hub.telemetry.receive(organisation_id, "a1", metrics(2))
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 1.0}


async def test_a_batch_is_bounded_in_samples(bus: InProcessBus) -> None:
    with bus.subscribe(
        frozenset({"telemetry"}), name="recorder", capacity=100, overflow=Overflow.REFUSE
    ) as subscription:
        for number in range(60):
            bus.publish(received("o1", f"a{number}", metrics(*range(1, 201))))
        taken = await waiting_frames(subscription)
        assert sum(len(frame.samples) for frame in taken) == BATCH_SAMPLES_MAX
        assert subscription.buffered == 60 - len(taken)


async def test_many_small_frames_make_one_batch(bus: InProcessBus) -> None:
    with bus.subscribe(
        frozenset({"telemetry"}), name="recorder", capacity=1000, overflow=Overflow.REFUSE
    ) as subscription:
        for number in range(500):
            bus.publish(received("o1", f"a{number}", metrics(1)))
        assert len(await waiting_frames(subscription)) == 500


async def test_a_deleted_agents_late_frames_are_not_stored(
    hub: Hub, organisation_id: str, deliveries: Subscription
) -> None:
    hub.telemetry.forget("a1")
    await hub.recorder.record([received(organisation_id, "a1", metrics(1))])
    assert await stored_count(hub.database) == 0
    assert not deliveries.buffered


async def test_retention_deletes_what_is_too_old_and_nothing_else(
    hub: Hub, organisation_id: str, clock: FakeClock
) -> None:
    old = [sample(seq, ts=NOW_MS - 8 * DAY_SECONDS * 1000) for seq in range(1, 101)]
    young = [sample(seq, ts=NOW_MS - 6 * DAY_SECONDS * 1000) for seq in range(101, 121)]
    frame = Metrics(epoch=7, lane=Lane.BACKFILL, samples=old + young)
    await hub.recorder.record([received(organisation_id, "a1", frame)])
    retention = Retention(telemetry=hub.telemetry, metrics_days=7)
    assert await retention.sweep() == 100
    assert await stored_count(hub.database) == 20
    clock.advance(2 * DAY_SECONDS)
    assert await retention.sweep() == 20


async def test_retention_works_in_slices(hub: Hub, organisation_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_server.telemetry.worker.RETENTION_SLICE_ROWS", 10)
    old = Metrics(epoch=7, lane=Lane.BACKFILL, samples=[sample(seq, ts=1000) for seq in range(1, 36)])
    await hub.recorder.record([received(organisation_id, "a1", old)])
    retention = Retention(telemetry=hub.telemetry, metrics_days=7)
    assert await retention.sweep() == 35


async def test_an_agent_is_deleted_with_its_traces_and_only_in_its_organisation(
    hub: Hub, database: Database, organisation_id: str
) -> None:
    await hub.recorder.record([received(organisation_id, "a1", metrics(1)), received("other", "a2", metrics(1))])
    async with database.write(EVERY_ORGANISATION) as connection:
        await hub.telemetry.delete_agent(connection, "other", "a1")
    assert await stored_count(database) == 2
    async with database.write(EVERY_ORGANISATION) as connection:
        await hub.telemetry.delete_agent(connection, organisation_id, "a1")
    assert await stored_values(database, "a1") == []
    assert await stored_count(database) == 1
    assert (await hub.restarted()).telemetry.sample_count("a1") == 0
