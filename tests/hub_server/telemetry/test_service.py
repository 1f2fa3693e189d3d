"""Newest values, history and reports."""

from __future__ import annotations

import asyncio

import pytest

from hub_server.alerts.worker import newest_observations
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.errors import InvalidRequest
from hub_server.events import AgentReported, MetricsReceived
from hub_server.storage.engine import EVERY_ORGANISATION
from hub_server.telemetry.model import EPOCHS_KEPT
from hub_server.telemetry.store import TYPES_PER_AGENT_MAX, TelemetryStore
from protocol.enumerations import Lane
from protocol.frames import Event, Metrics, MetricValue, Sample
from protocol.telemetry import MetricsQuery
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import (
    NOW_MS,
    Hub,
    metrics,
    received,
    sample,
    stored_reports,
    viewer_of,
    waiting,
)

HOUR_MS = 3600 * 1000
START_MS = NOW_MS - HOUR_MS


def frame_of(*samples: Sample, lane: Lane = Lane.LIVE) -> Metrics:
    return Metrics(epoch=7, lane=lane, samples=list(samples))


def report(seq: int, *, epoch: int = 3) -> Event:
    return Event(epoch=epoch, seq=seq, ts=NOW_MS, kind="collector_failing", data={"collector": "disk"})


async def store(hub: Hub, organisation_id: str, values: list[tuple[int, dict[str, MetricValue]]]) -> None:
    samples = [
        Sample(seq=seq, ts=ts, metric_type="system", metric_data=data) for seq, (ts, data) in enumerate(values, start=1)
    ]
    await hub.recorder.record([received(organisation_id, "a1", frame_of(*samples))])


async def test_a_frame_that_comes_again_after_its_commit_is_history(
    hub: Hub, organisation_id: str, bus: InProcessBus
) -> None:
    """Its acknowledgement was lost: it is acknowledged again, and raises nothing and replaces nothing."""
    await hub.recorder.record([received(organisation_id, "a1", metrics(1))])
    assert hub.telemetry.receive(organisation_id, "a1", metrics(2))
    with bus.subscribe(frozenset({"telemetry"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as heard:
        assert hub.telemetry.receive(organisation_id, "a1", metrics(1))
        [again] = await waiting(heard)
    assert isinstance(again, MetricsReceived)
    assert again.is_repeated
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 2.0}
    assert newest_observations([again]) == []


async def test_the_newest_values_are_there_at_once_and_after_a_restart(hub: Hub, organisation_id: str) -> None:
    frame = frame_of(sample(1), sample(2, kind="security", firewall_enabled=True), sample(3))
    assert hub.telemetry.receive(organisation_id, "a1", frame)
    await hub.recorder.record([received(organisation_id, "a1", frame), received(organisation_id, "a2", metrics(5))])
    before = hub.telemetry.newest("a1")
    assert before["system"].data == {"cpu_percent": 3.0}
    assert before["security"].data == {"firewall_enabled": True}
    restarted = await hub.restarted()
    assert restarted.telemetry.newest("a1") == before
    assert restarted.telemetry.newest("a2")["system"].data == {"cpu_percent": 5.0}
    assert restarted.telemetry.newest("nobody") == {}


async def test_a_backfilled_sample_does_not_replace_a_newer_one(hub: Hub, organisation_id: str) -> None:
    hub.telemetry.receive(organisation_id, "a1", frame_of(sample(9, ts=NOW_MS - 1000)))
    hub.telemetry.receive(organisation_id, "a1", frame_of(sample(1, ts=NOW_MS - 9000), lane=Lane.BACKFILL))
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 9.0}
    hub.telemetry.receive(organisation_id, "a1", frame_of(sample(2, ts=NOW_MS - 500), lane=Lane.BACKFILL))
    assert hub.telemetry.newest("a1")["system"].data == {"cpu_percent": 2.0}


async def test_a_sample_from_the_future_is_not_the_newest_for_ever(hub: Hub, organisation_id: str) -> None:
    future = frame_of(sample(1, ts=NOW_MS + 24 * HOUR_MS))
    hub.telemetry.receive(organisation_id, "a1", future)
    assert hub.telemetry.newest("a1")["system"].ts_ms == NOW_MS
    present = frame_of(sample(2, ts=NOW_MS - 5))
    await hub.recorder.record([received(organisation_id, "a1", frame) for frame in (future, present)])
    restarted = await hub.restarted()
    assert restarted.telemetry.newest("a1")["system"].data == {"cpu_percent": 2.0}


async def test_an_agent_cannot_fill_the_memory_with_metric_types(hub: Hub, organisation_id: str) -> None:
    kinds = [sample(seq, kind=f"custom.{seq}") for seq in range(1, TYPES_PER_AGENT_MAX + 20)]
    frame = frame_of(*kinds)
    hub.telemetry.receive(organisation_id, "a1", frame)
    assert len(hub.telemetry.newest("a1")) == TYPES_PER_AGENT_MAX
    await hub.recorder.record([received(organisation_id, "a1", frame)])
    assert len((await hub.restarted()).telemetry.newest("a1")) == TYPES_PER_AGENT_MAX


async def test_welcome_acknowledges_the_epoch_in_use_of_each_stream(
    hub: Hub, organisation_id: str, clock: FakeClock
) -> None:
    for epoch in (900, 20, 300):
        clock.advance(1)
        await hub.recorder.record([received(organisation_id, "a1", metrics(1, 2, epoch=epoch))])
    await hub.recorder.record([received(organisation_id, "a1", metrics(4, epoch=5, lane=Lane.BACKFILL))])
    await hub.telemetry.report(organisation_id, "a1", report(1))
    for telemetry in (hub.telemetry, (await hub.restarted()).telemetry):
        acks = telemetry.acknowledged("a1")
        assert {stream: (ack.epoch, ack.ranges) for stream, ack in acks.items()} == {
            "live": (300, [(1, 2)]),
            "backfill": (5, [(4, 4)]),
            "events": (3, [(1, 1)]),
        }
        assert telemetry.sample_count("a1") == 7


async def test_only_the_epochs_used_last_are_kept(hub: Hub, organisation_id: str, clock: FakeClock) -> None:
    for epoch in (60, 50, 40, 30, 20, 10):
        clock.advance(1)
        await hub.recorder.record([received(organisation_id, "a1", metrics(1, epoch=epoch))])
    for telemetry in (hub.telemetry, (await hub.restarted()).telemetry):
        assert telemetry.sample_count("a1") == EPOCHS_KEPT
        assert telemetry.acknowledged("a1")["live"].epoch == 10
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        kept = await TelemetryStore().load_ranges(connection)
    assert sorted(stored.key.epoch for stored in kept) == [10, 20, 30, 40]


async def test_an_epoch_in_use_again_is_not_the_one_that_is_dropped(
    hub: Hub, organisation_id: str, clock: FakeClock
) -> None:
    for epoch in (1, 2, 3, 4):
        clock.advance(1)
        await hub.recorder.record([received(organisation_id, "a1", metrics(1, epoch=epoch))])
    clock.advance(1)
    await hub.recorder.record([received(organisation_id, "a1", metrics(2, epoch=epoch)) for epoch in (1, 5)])
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        kept = await TelemetryStore().load_ranges(connection)
    assert sorted(stored.key.epoch for stored in kept) == [1, 3, 4, 5]


async def test_a_report_is_stored_and_said_once(hub: Hub, organisation_id: str, bus: InProcessBus) -> None:
    with bus.subscribe(frozenset({"reports"}), name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as reports:
        for _ in range(3):
            ack = await hub.telemetry.report(organisation_id, "a1", report(2))
            assert (ack.epoch, ack.ranges) == (3, [(2, 2)])
            hub = await hub.restarted()
        [event] = await waiting(reports)
    assert isinstance(event, AgentReported)
    assert (event.kind, event.data, event.seq) == ("collector_failing", {"collector": "disk"}, 2)
    assert hub.telemetry.sample_count("a1") == 0
    assert await stored_reports(hub.database) == 1


async def test_reports_at_the_same_time_are_all_remembered(hub: Hub, organisation_id: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        for seq in range(1, 9):
            tasks.create_task(hub.telemetry.report(organisation_id, "a1", report(seq)))
    assert (await hub.restarted()).telemetry.acknowledged("a1")["events"].ranges == [(1, 8)]


async def test_a_short_chart_shows_raw_samples(hub: Hub, organisation_id: str) -> None:
    await store(hub, organisation_id, [(START_MS + 10_000 * n, {"cpu_percent": n}) for n in range(20)])
    reply = await hub.telemetry.query(
        viewer_of(organisation_id),
        MetricsQuery(agent_ids=["a1"], metrics=["cpu_percent"], from_=START_MS, to=START_MS + 190_000, max_points=100),
    )
    assert reply.resolution_sec == 0
    [series] = reply.series
    assert series.timestamps == [START_MS + 10_000 * n for n in range(19)]
    assert series.values["cpu_percent"] == list(range(19))


async def test_too_many_raw_samples_are_put_in_buckets(hub: Hub, organisation_id: str) -> None:
    await store(hub, organisation_id, [(START_MS + 1000 * n, {"cpu_percent": n}) for n in range(100)])
    reply = await hub.telemetry.query(
        viewer_of(organisation_id),
        MetricsQuery(agent_ids=["a1"], metrics=["cpu_percent"], from_=START_MS, to=START_MS + 100_000, max_points=50),
    )
    assert reply.resolution_sec == 10
    assert reply.series[0].timestamps == [START_MS + 10_000 * n for n in range(10)]
    assert reply.series[0].values["cpu_percent"] == [4.5 + 10 * n for n in range(10)]


async def test_a_bucket_holds_the_mean_of_gauges_and_the_last_value_of_counters(hub: Hub, organisation_id: str) -> None:
    values: list[tuple[int, dict[str, MetricValue]]] = [
        (START_MS, {"cpu_percent": 10, "network_bytes_sent": 100, "uptime_seconds": 5, "disk_mount": "/"}),
        (START_MS + 20_000, {"cpu_percent": 30.0, "network_bytes_sent": 300, "uptime_seconds": 25, "disk_mount": "/"}),
        (START_MS + 70_000, {"disk_mount": "/", "cpu_percent": True}),
    ]
    await store(hub, organisation_id, values)
    names = ["cpu_percent", "network_bytes_sent", "uptime_seconds", "disk_mount", "no_such_metric"]
    reply = await hub.telemetry.query(
        viewer_of(organisation_id),
        MetricsQuery(agent_ids=["a1"], metrics=names, from_=START_MS, to=START_MS + HOUR_MS, max_points=61),
    )
    assert reply.resolution_sec == 60
    [series] = reply.series
    assert series.timestamps == [START_MS, START_MS + 60_000]
    assert series.values == {
        "cpu_percent": [20.0, None],
        "network_bytes_sent": [300.0, None],
        "uptime_seconds": [25.0, None],
        "disk_mount": [None, None],
        "no_such_metric": [None, None],
    }


async def test_a_chart_longer_than_one_chunk_is_whole(hub: Hub, organisation_id: str) -> None:
    await store(hub, organisation_id, [(START_MS + 1000 * n, {"cpu_percent": 1}) for n in range(3500)])
    reply = await hub.telemetry.query(
        viewer_of(organisation_id),
        MetricsQuery(agent_ids=["a1"], metrics=["cpu_percent"], from_=START_MS, to=NOW_MS, max_points=4000),
    )
    assert len(reply.series[0].timestamps) == 3500


async def test_unknown_agents_and_those_of_others_are_empty(hub: Hub, organisation_id: str) -> None:
    await store(hub, organisation_id, [(START_MS, {"cpu_percent": 1})])
    request = MetricsQuery(agent_ids=["a1", "a9"], metrics=["cpu_percent"], from_=0, to=NOW_MS)
    reply = await hub.telemetry.query(viewer_of("another"), request)
    assert [(series.agent_id, series.timestamps) for series in reply.series] == [("a1", []), ("a9", [])]
    reply = await hub.telemetry.query(viewer_of(organisation_id), request)
    assert [len(series.timestamps) for series in reply.series] == [1, 0]


async def test_a_time_that_ends_before_it_starts_is_refused(hub: Hub, organisation_id: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await hub.telemetry.query(
            viewer_of(organisation_id), MetricsQuery(agent_ids=["a1"], metrics=["cpu_percent"], from_=5, to=5)
        )
    assert refusal.value.path == "$.from"
