"""A session from hello to goodbye: streams, heartbeats, coming back; against a real wss server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_client.collectors.sampling import Scheduled
from agent_client.paths import Places
from agent_client.spool.database import Database
from agent_client.spool.ledger import Stream
from agent_client.spool.spool import Spool, SpoolBound
from protocol.enumerations import (
    Action,
    GoodbyeReason,
    Lane,
)
from protocol.frames import (
    Error,
    Event,
    Goodbye,
    Heartbeat,
    Hello,
    Metrics,
    MetricsAck,
)
from tests.agent_client.alive import alive, until
from tests.agent_client.clock import SteppingClock
from tests.agent_client.fleet import AGENT, Fleet, now_ms
from tests.agent_client.hub import Hub, running

pytestmark = pytest.mark.usefixtures("hurried")


def spooled(places: Places, lane: Stream, count: int) -> None:
    """Fill the spool as an agent without a hub does."""
    database = Database(places.database)
    spool = Spool(database, SteppingClock(), SpoolBound(2**26, 72 * 3600), owner=AGENT)
    for number in range(count):
        spool.append_samples(lane, now_ms() - 1000 * (count - number), [("system", {"n": number})])
    database.close()


async def test_a_session_begins_with_hello_and_a_heartbeat_that_describes_the_machine(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            hello = peer.frames[0]
            assert isinstance(hello, Hello)
            assert hello.capabilities == list(Action)
            assert hello.streams.live.epoch != hello.streams.backfill.epoch
            heartbeat = await peer.first(Heartbeat)
            assert heartbeat.sysinfo is not None
            assert heartbeat.sysinfo.hostname
            sample = (await peer.first(Metrics)).samples[0]
            assert sample.metric_type == "system"
            assert sample.metric_data["cpu_count"]
            await until(lambda: agent.status().last_heartbeat_ms)
            assert agent.status().link == "connected"
        goodbye = await peer.first(Goodbye)
        assert goodbye.reason is GoodbyeReason.OPERATOR


async def test_the_machine_is_described_again_only_every_tenth_heartbeat(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub(heartbeat_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            beats = await (await hub.peer()).several(3, Heartbeat)
    assert [beat.sysinfo is not None for beat in beats[:3]] == [True, False, False]


async def test_acknowledged_samples_leave_the_spool_and_the_others_come_again_with_the_same_sequence(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(acknowledges=False, sample_seconds=1)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            frame = (await first.several(2, Metrics, lambda frame: frame.lane is Lane.LIVE))[0]
            await first.send(
                MetricsAck(epoch=frame.epoch, lane=frame.lane, ranges=[(frame.samples[0].seq,) * 2], credits=8)
            )
            await until(lambda: agent._spool.samples("live", 0, 1, 1 << 20)[0].seq == 2)
            hub.acknowledges = True
            first.drop()
            second = await hub.peer(2)
            again = await second.first(Metrics, lambda frame: frame.lane is Lane.LIVE)
            assert (again.epoch, again.lane) == (frame.epoch, Lane.LIVE)
            assert again.samples[0].seq == 2
            assert hub.received.count(("live", frame.epoch, 2)) == 2
            await until(lambda: agent.status().spool.waiting["live"] == 0)


async def test_what_was_taken_without_a_session_comes_as_backfill_in_full_frames_under_its_credits(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(acknowledges=False, credits={"live": 8, "backfill": 2, "events": 8}, sample_seconds=60)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        spooled(places, "backfill", 1000)
        async with alive(places) as agent:
            peer = await hub.peer()
            frames = await peer.several(2, Metrics, lambda frame: frame.lane is Lane.BACKFILL)
            await peer.first(Metrics, lambda frame: frame.lane is Lane.LIVE)
            assert [len(frame.samples) for frame in frames] == [200, 200]
            hub.acknowledges = True
            for frame in frames:
                ranges = [(frame.samples[0].seq, frame.samples[-1].seq)]
                await peer.send(MetricsAck(epoch=frame.epoch, lane=frame.lane, ranges=ranges, credits=2))
            await until(lambda: agent.status().spool.waiting["backfill"] == 0)
    numbers = [sample.metric_data.get("n") for (lane, _, _), sample in hub.stored.items() if lane == "backfill"]
    assert numbers[:1000] == list(range(1000))
    assert len(hub.received) == len(set(hub.received))


async def test_a_stream_without_credits_is_silent_and_the_heartbeats_go_on(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(heartbeat_seconds=1, credits={"live": 0, "backfill": 0, "events": 0})
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.several(2, Heartbeat)
            assert agent.status().spool.waiting["live"] >= 1
            assert peer.all(Metrics) == []
            epoch = agent._spool.epoch("live")
            await peer.send(MetricsAck(epoch=epoch, lane=Lane.LIVE, ranges=[], credits=1))
            await peer.first(Metrics)


async def test_a_killed_hub_is_found_again_and_nothing_is_lost_or_doubled(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(sample_seconds=1)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.first(Metrics)
            first.drop()
            await until(lambda: agent.status().link != "connected")
            second = await hub.peer(2)
            hello = second.frames[0]
            assert isinstance(hello, Hello)
            assert hello.last_disconnect is not None
            assert hello.last_disconnect.code == 1006
            await second.first(Metrics)
    live = sorted(seq for lane, _, seq in hub.stored if lane == "live")
    assert live == list(range(1, len(live) + 1))


async def test_a_sample_taken_while_the_hub_is_away_is_of_the_other_lane(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(sample_seconds=1)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port, first_retry_spread_seconds=60.0)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.first(Metrics, lambda frame: frame.lane is Lane.LIVE)
            await until(lambda: not agent.status().spool.waiting["backfill"])
            before = len([key for key in hub.received if key[0] == "backfill"])
            first.drop()
            await until(lambda: agent.status().spool.waiting["backfill"])
            assert agent.status().link == "waiting"
            agent.reload()
            second = await hub.peer(2)
            frame = await second.first(Metrics, lambda frame: frame.lane is Lane.BACKFILL)
            assert frame.samples[0].seq == before + 1


async def test_a_new_life_of_the_agent_keeps_epochs_and_says_how_the_last_session_ended(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        hellos = []
        for number in (1, 2):
            async with alive(places):
                peer = await hub.peer(number)
                await peer.first(Metrics)
                hellos.append(peer.all(Hello)[0])
    assert hellos[0].last_disconnect is None
    assert hellos[1].last_disconnect is not None
    assert hellos[1].last_disconnect.reason == "operator"
    assert hellos[1].streams.live.epoch == hellos[0].streams.live.epoch
    assert hellos[1].streams.live.newest >= 1


async def test_a_hub_that_says_nothing_for_three_heartbeats_is_dropped(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(heartbeat_seconds=1, answers_heartbeats=False, acknowledges=False)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await hub.peer(1)
            agent._cadence.heartbeat_seconds = 0.1
            await hub.peer(2)
            assert "silent" in agent.status().last_end


async def test_what_the_agent_does_not_understand_is_answered_and_the_session_stays(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub(heartbeat_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.first(Heartbeat)
            for text in ('{"type":"tomorrow"}', "{", '{"type":"command:cancel"}'):
                await peer.connection.send(text)
            errors = await peer.several(3, Error)
            await peer.several(2, Heartbeat)
    assert [error.code for error in errors] == ["unknown_type", "bad_frame", "bad_frame"]


async def test_a_failing_collector_is_said_once_and_stops_nothing(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name = "broken"

        def collect(self) -> dict[str, Any]:
            raise OSError("no such sensor")

    async with running(fleet, tmp_path, Hub(sample_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            agent._sampler._collectors = [Scheduled(Broken()), *agent._sampler._collectors]
            peer = await hub.peer()
            event = await peer.first(Event, lambda event: event.kind != "started")
            assert (event.kind, event.data["collector"]) == ("collector_failing", "broken")
            before = len(peer.all(Metrics))
            await peer.several(before + 1, Metrics)
            assert agent.status().failing_collectors == ["broken"]
            assert [event.kind for event in peer.all(Event)] == ["started", "collector_failing"]
