"""What an agent tells of itself: how it is, when its clock jumps, and what became of its spool."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_client.exposition import exposition_of
from agent_client.paths import Places
from agent_client.report import status_lines
from agent_client.spool.database import Database
from agent_client.spool.spool import Spool, SpoolBound
from agent_client.version import AGENT_VERSION
from protocol.enumerations import Lane
from protocol.frames import Event, Heartbeat, Metrics, StreamAck
from tests.agent_client.alive import alive, until
from tests.agent_client.clock import SteppingClock
from tests.agent_client.fleet import AGENT, Fleet, now_ms
from tests.agent_client.hub import Hub, running

pytestmark = pytest.mark.usefixtures("hurried")

FIGURES = {
    "heartbeat_success_percent",
    "round_trip_ms",
    "clock_ahead_ms",
    "certificate_days_left",
    "rss_bytes",
    "cpu_percent",
    "samples_per_second",
    "reconnects_total",
    "spool_bytes",
    "spool_waiting_live",
    "spool_waiting_backfill",
    "spool_waiting_events",
    "spool_dropped_live_total",
    "spool_dropped_backfill_total",
    "spool_dropped_events_total",
}


async def test_the_agent_is_a_metric_of_itself_and_in_words_and_in_prometheus_text(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, days=20)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.first(Metrics, lambda frame: any(sample.metric_type == "agent" for sample in frame.samples))
            await until(lambda: agent.status().last_heartbeat_ms and not agent.status().spool.waiting["live"])
            figures = agent._vitals.collect()["agent"]
            status = agent.status()
    assert set(figures) == FIGURES
    assert figures["heartbeat_success_percent"] == 100
    assert figures["certificate_days_left"] == pytest.approx(20, abs=0.1)
    assert float(str(figures["samples_per_second"])) > 0
    assert any(re.fullmatch(r"clock +agrees with the hub's", line) for line in status_lines(status))
    text = exposition_of(status)
    lines = text.splitlines()
    assert "jtnt_agent_up 1" in lines
    assert "jtnt_agent_connected 1" in lines
    assert 'jtnt_agent_spool_waiting{stream="live"} 0' in lines
    assert "jtnt_agent_heartbeat_success_ratio 1" in lines
    assert all(re.fullmatch(r'jtnt_agent_\w+(\{stream="\w+"\})? [0-9.e+-]+', line) for line in lines if line[0] != "#")
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) > 10
    assert text.endswith("\n")


async def test_a_jump_of_the_clock_is_said_by_a_heartbeat_before_anything_is_sent_with_the_new_time(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    clock = SteppingClock()
    async with running(fleet, tmp_path, Hub(sample_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places, clock) as agent:
            peer = await hub.peer()
            await peer.first(Metrics)
            await until(lambda: agent.status().health.clock_ahead_ms is not None)
            clock.offset_ms = 3_600_000
            await peer.first(Event, lambda event: event.kind == "clock_stepped")
            await peer.several(2, Heartbeat)
            later = now_ms() + 1_800_000
            await peer.first(Metrics, lambda frame: frame.samples[0].ts > later)
            await until(lambda: (agent.status().health.clock_ahead_ms or 0) > 3_000_000)
            assert any("3600.0 s ahead of the hub's" in line for line in status_lines(agent.status()))
    beat = next(i for i, frame in enumerate(peer.frames) if isinstance(frame, Heartbeat) and frame.clock_ms > later)
    sample = next(
        i for i, frame in enumerate(peer.frames) if isinstance(frame, Metrics) and frame.samples[-1].ts > later
    )
    assert beat < sample


async def test_each_life_and_each_session_that_ended_is_told(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            first = await hub.peer(1)
            started = await first.first(Event, lambda event: event.kind == "started")
            first.drop()
            second = await hub.peer(2)
            lost = await second.first(Event, lambda event: event.kind == "disconnected")
        async with alive(places):
            third = await hub.peer(3)
            events = await third.several(2, Event)
    assert (started.data["version"], started.data["clean"], started.data["down_ms"]) == (AGENT_VERSION, False, None)
    assert (lost.data["code"], lost.data["attempts"]) == (1006, 1)
    assert [(event.kind, event.data.get("clean"), event.data.get("reason")) for event in events] == [
        ("started", True, None),
        ("disconnected", None, "operator"),
    ]
    assert isinstance(events[0].data["down_ms"], int)


async def test_a_hub_that_holds_more_than_the_spool_ever_numbered_gets_what_is_new_under_a_new_epoch(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub()
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        database = Database(places.database)
        spool = Spool(database, SteppingClock(), SpoolBound(2**26, 72 * 3600), owner=AGENT)
        spool.append_samples("live", now_ms(), [("system", {"n": 1}), ("system", {"n": 2})])
        old = spool.epoch("live")
        database.close()
        hub.welcome = {"acks": {"live": StreamAck(epoch=old, ranges=[(1, 1), (3, 500)])}}
        async with alive(places):
            peer = await hub.peer()
            frame = await peer.first(Metrics, lambda frame: frame.lane is Lane.LIVE)
            await peer.first(Event, lambda event: event.kind == "spool_renewed")
    assert frame.epoch != old
    assert (frame.samples[0].seq, frame.samples[0].metric_data) == (2, {"n": 2})
    assert all(epoch != old for lane, epoch, _ in hub.received if lane == "live")


async def test_a_spool_that_something_else_wrote_into_makes_the_agent_begin_anew_and_say_so(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await (await hub.peer(1)).first(Metrics)
            agent._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
            size = places.database.stat().st_size
            with places.database.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * (size - 4096))
            agent._database.rows("PRAGMA cache_size = 0")
            await until(lambda: agent.begins_anew)
        async with alive(places):
            peer = await hub.peer(2)
            damaged = await peer.first(Event, lambda event: event.kind == "spool_damaged")
            await peer.first(Metrics)
    assert damaged.data["moved_to"] == str(places.state / "spool.damaged")
