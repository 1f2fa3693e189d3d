from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hub_server.fleet.model import Agent
from hub_server.gateway.dashboards import following, samples
from protocol.enumerations import Lane
from protocol.limits import FEED_CONFIRM_EVERY, FEED_LAG_MAX, UNSUBSCRIBED_AGENTS_MAX
from protocol.operations import FeedSubscribe
from protocol.requests import AgentFilter
from tests.clocks import FakeClock
from tests.hub_server.gateway.dashboards.hearing import HearingLine, hearing, values_in
from tests.hub_server.gateway.dashboards.stage import ORGANISATION, Stage, agent

WEB = AgentFilter(tags=["web"])


async def subscribed(stage: Stage, socket_id: str, request: FeedSubscribe | None = None) -> HearingLine:
    line = hearing(stage, socket_id)
    await stage.feed.subscribe(socket_id, ORGANISATION, request or FeedSubscribe())
    return line


async def test_a_snapshot_then_only_what_changed_and_the_newest_of_it() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"), agent("b"))
    stage.fleet.say("a", {"cpu_percent": 1.0})
    stage.tick()
    line = await subscribed(stage, "s")
    (snapshot,) = line.take()
    assert (snapshot["snapshot"], snapshot["agentIds"]) == (True, ["a", "b"])
    assert values_in([snapshot]) == {"a": 1.0}
    stage.fleet.say("b", {"cpu_percent": 2.0})
    stage.fleet.say("b", {"cpu_percent": 3.0})
    stage.tick()
    (delta,) = line.take()
    assert (delta["snapshot"], delta["agentIds"], delta["version"]) == (False, None, snapshot["version"] + 1)
    assert values_in([delta]) == {"b": 3.0}
    stage.tick()
    assert not line.take()


async def test_two_frames_of_one_agent_in_a_tick_are_both_told() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"))
    line = await subscribed(stage, "s")
    line.take()
    stage.fleet.say("a", {"cpu_percent": 1.0})
    stage.fleet.say("a", {"percent": 2.0}, metric_type="disk./")
    stage.tick()
    (delta,) = line.take()
    assert {sample["metricType"] for sample in delta["samples"]} == {"system", "disk./"}


async def test_all_who_ask_for_the_same_are_sent_one_message() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"), agent("b"))
    first = await subscribed(stage, "1", FeedSubscribe(agent_ids=["a", "b"], metrics=["cpu_percent", "x"]))
    second = await subscribed(stage, "2", FeedSubscribe(agent_ids=["b", "a"], metrics=["x", "cpu_percent"]))
    other = await subscribed(stage, "3", FeedSubscribe(agent_ids=["a"]))
    for line in (first, second, other):
        line.messages.clear()
    stage.fleet.say("a", {"cpu_percent": 1.0})
    stage.tick()
    assert stage.feed.view_count == 2
    assert first.messages[0] is second.messages[0]
    assert other.messages[0] is not first.messages[0]
    for socket_id in "123":
        stage.feed.drop(socket_id)
    assert (stage.feed.view_count, stage.feed.watcher_count) == (0, 0)


async def test_metrics_and_types_that_were_not_asked_for_are_left_out() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"))
    named = await subscribed(stage, "1", FeedSubscribe(metrics=["cpu_percent"]))
    typed = await subscribed(stage, "2", FeedSubscribe(metric_types=["disk./"]))
    for line in (named, typed):
        line.take()
    stage.fleet.say("a", {"cpu_percent": 1.0, "load_1m": 2.0})
    stage.fleet.say("a", {"percent": 2.0}, metric_type="disk./")
    stage.tick()
    assert [sample["metricData"] for sample in named.take()[0]["samples"]] == [{"cpu_percent": 1.0}]
    assert [sample["metricType"] for sample in typed.take()[0]["samples"]] == ["disk./"]
    stage.fleet.say("a", {"cpu_percent": 1.0})
    stage.tick()
    assert not typed.take()


async def test_history_that_is_filled_in_later_is_no_news() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"))
    stage.fleet.say("a", {"cpu_percent": 2.0}, ts_ms=20)
    stage.tick()
    line = await subscribed(stage, "s")
    line.take()
    stage.fleet.say("a", {"cpu_percent": 1.0}, ts_ms=10, lane=Lane.BACKFILL)
    stage.tick()
    assert not line.take()
    stage.fleet.say("a", {"cpu_percent": 2.0}, ts_ms=20, lane=Lane.BACKFILL)
    stage.tick()
    assert line.take()


async def test_who_does_not_confirm_is_taken_out_and_comes_back_with_a_snapshot() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"))
    line = await subscribed(stage, "s")
    line.take()
    for value in range(FEED_LAG_MAX + 5):
        stage.fleet.say("a", {"cpu_percent": float(value)})
        stage.tick()
    frames = line.take()
    assert (len(frames), stage.feed.laggards) == (FEED_LAG_MAX + 1, 1)
    assert stage.feed.frames <= FEED_LAG_MAX + 3, "frames are encoded for nobody"
    stage.feed.acknowledge("s", frames[-1]["version"])
    (back,) = line.take()
    assert back["snapshot"]
    assert values_in([back]) == {"a": FEED_LAG_MAX + 4.0}
    stage.fleet.say("a", {"cpu_percent": 77.0})
    stage.tick()
    assert values_in(line.take()) == {"a": 77.0}


class Reading:
    """A client that confirms a snapshot at once, and then as seldom as it may."""

    def __init__(self, stage: Stage, line: HearingLine, confirm_every: int) -> None:
        self._stage = stage
        self._line = line
        self._confirm_every = confirm_every
        self._confirmed = 0
        self.frames: list[dict[str, Any]] = []

    def read(self) -> None:
        """Read all that is there; what it confirms may bring more."""
        while frames := self._line.take():
            self.frames += frames
            for frame in frames:
                if frame["snapshot"] or frame["version"] >= self._confirmed + self._confirm_every:
                    self._confirmed = frame["version"]
                    self._stage.feed.acknowledge("s", self._confirmed)

    def say(self, value: float) -> None:
        self._stage.fleet.say("a", {"cpu_percent": value})
        self._stage.tick()


async def test_who_confirms_as_seldom_as_it_may_is_never_taken_out_and_after_any_stall_comes_back() -> None:
    for read_before in range(2 * FEED_CONFIRM_EVERY):
        stage = Stage()
        stage.fleet.add(agent("a"))
        line = hearing(stage, "s")
        reply = await stage.feed.subscribe("s", ORGANISATION, FeedSubscribe())
        one = Reading(stage, line, reply.confirm_every)
        for _ in range(2 * FEED_LAG_MAX + read_before):
            one.read()
            one.say(1.0)
        one.read()
        assert stage.feed.laggards == 0
        for _ in range(FEED_LAG_MAX + 2):
            one.say(2.0)
        one.say(3.0)
        assert stage.feed.laggards == 1
        one.read()
        assert one.frames[-1]["snapshot"]
        assert values_in(one.frames) == {"a": 3.0}


async def test_who_does_not_read_comes_back_when_its_line_is_empty() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"))
    line = await subscribed(stage, "s")
    line.take()
    line.reads = line.is_drained = False
    stage.fleet.say("a", {"cpu_percent": 1.0})
    stage.tick()
    line.reads = True
    stage.fleet.say("a", {"cpu_percent": 2.0})
    stage.tick()
    assert not line.take()
    line.is_drained = True
    stage.tick()
    (back,) = line.take()
    assert back["snapshot"]
    assert values_in([back]) == {"a": 2.0}
    stage.tick()
    assert not line.take()


async def test_a_large_snapshot_comes_in_parts_as_the_client_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "FRAME_MAX_BYTES", 300)
    stage = Stage()
    stage.fleet.add(*(agent(f"a{number}") for number in range(10)))
    for number in range(10):
        stage.fleet.say(f"a{number}", {"cpu_percent": float(number)})
    stage.tick()
    line = await subscribed(stage, "s")
    line.is_drained = False
    stage.tick()
    (first,) = frames = line.take()
    assert first["snapshot"]
    assert 0 < len(first["samples"]) < 10
    line.is_drained = True
    for _ in range(10):
        stage.tick()
        frames += line.take()
    assert len(values_in(frames)) == 10
    assert sum(len(frame["samples"]) for frame in frames) == 10
    assert {frame["snapshot"] for frame in frames[1:]} == {False}


async def test_a_tick_with_much_that_is_new_is_several_frames_of_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "FRAME_MAX_BYTES", 300)
    stage = Stage()
    stage.fleet.add(*(agent(f"a{number}") for number in range(10)))
    line = await subscribed(stage, "s")
    line.take()
    for number in range(10):
        stage.fleet.say(f"a{number}", {"cpu_percent": float(number)})
    stage.tick()
    frames = line.take()
    assert len(values_in(frames)) == 10
    assert len(frames) > 2
    assert len({frame["version"] for frame in frames}) == 1


async def test_a_view_by_filter_follows_the_fleet() -> None:
    stage = Stage()
    stage.fleet.add(agent("a", tags=("web",)), agent("b"))
    stage.tick()
    line = await subscribed(stage, "s", FeedSubscribe(filter=WEB))
    line.take()
    stage.fleet.add(agent("c", tags=("web",)))
    stage.fleet.say("c", {"cpu_percent": 3.0})
    stage.tick()
    (moved,) = line.take()
    assert moved["agentIds"] == ["a", "c"]
    assert values_in([moved]) == {"c": 3.0}
    stage.fleet.change(agent("a"))
    stage.fleet.say("a", {"cpu_percent": 1.0})
    stage.tick()
    (moved,) = line.take()
    assert (moved["agentIds"], moved["samples"]) == (["c"], [])
    stage.fleet.remove("c")
    stage.tick()
    assert line.take()[0]["agentIds"] == []


async def test_a_view_sorted_by_values_is_looked_at_again_now_and_then() -> None:
    clock = FakeClock()
    stage = Stage(clock=clock)
    stage.fleet.add(agent("a"), agent("b"))
    stage.fleet.say("b", {"cpu_percent": 1.0})
    stage.fleet.say("a", {"cpu_percent": 2.0})
    stage.tick()
    line = await subscribed(stage, "s", FeedSubscribe(sort="cpu", limit=1))
    assert line.take()[0]["agentIds"] == ["b"]
    stage.fleet.say("a", {"cpu_percent": 0.0})
    stage.tick()
    assert not line.take()
    clock.advance(following.VALUES_SECONDS)
    stage.tick()
    (moved,) = line.take()
    assert moved["agentIds"] == ["a"]
    assert values_in([moved]) == {"a": 0.0}


async def test_views_are_looked_at_for_a_small_part_of_the_time_only() -> None:
    """Each look takes half a second of this clock, so that one is paid for in ten seconds."""
    clock = FakeClock()
    stage = Stage(clock=clock)
    window = stage.fleet.window

    def slow(*asked: Any) -> tuple[list[Agent], int]:
        clock.advance(0.5)
        return window(*asked)

    for number in range(5):
        await subscribed(stage, str(number), FeedSubscribe(limit=number + 1))
    stage.fleet.window = slow  # type: ignore[method-assign,assignment]
    stage.fleet.selections = 0
    stage.tick()
    clock.advance(100)
    for second in range(30):
        clock.advance(1)
        stage.fleet.add(agent(f"a{second}"))
        stage.tick()
    assert 3 <= stage.fleet.selections <= 5


async def test_samples_of_other_organisations_and_of_unwatched_machines_cost_no_frame() -> None:
    stage = Stage()
    stage.fleet.add(agent("a"), agent("b"), agent("theirs", organisation_id="other"))
    line = await subscribed(stage, "s", FeedSubscribe(agent_ids=["a", "theirs"]))
    assert line.take()[0]["agentIds"] == ["a"]
    frames = stage.feed.frames
    stage.fleet.say("b", {"cpu_percent": 1.0})
    stage.fleet.say("theirs", {"cpu_percent": 1.0}, organisation_id="other")
    stage.tick()
    assert not line.take()
    assert stage.feed.frames == frames


async def test_without_a_subscription_the_first_by_name_are_told_one_by_one_and_nothing_is_sorted_for_it() -> None:
    stage = Stage()
    stage.fleet.add(*(agent(f"id-{number}", name=f"m{number:03}") for number in range(UNSUBSCRIBED_AGENTS_MAX + 1)))
    line = hearing(stage, "s")
    stage.fleet.say("id-0", {"cpu_percent": 1.0})
    stage.fleet.say(f"id-{UNSUBSCRIBED_AGENTS_MAX}", {"cpu_percent": 2.0})
    stage.tick()
    assert [event["agentId"] for event in line.take("agent:metrics")] == ["id-0"]
    assert stage.fleet.selections == 0
    await stage.feed.subscribe("s", ORGANISATION, FeedSubscribe(agent_ids=["id-0"]))
    line.take()
    stage.fleet.say("id-0", {"cpu_percent": 1.0})
    stage.tick()
    assert not [message for message in line.messages if b"agent:metrics" in message.frame]


async def test_the_first_by_name_change_with_the_fleet() -> None:
    stage = Stage()
    stage.fleet.add(*(agent(f"id-{number}", name=f"m{number:03}") for number in range(UNSUBSCRIBED_AGENTS_MAX)))
    async with stage.announcing():
        await stage.settled()
        last = f"id-{UNSUBSCRIBED_AGENTS_MAX - 1}"
        assert last in names(stage)
        stage.fleet.add(agent("behind", name="zzz"), agent("before", name="aaa"))
        await stage.settled()
        assert names(stage)[0] == "before"
        assert not {last, "behind"} & set(names(stage))
        stage.fleet.change(replace(agent("before"), name="zzzz"))
        await stage.settled()
        assert names(stage)[0] == "id-0"
        assert last in names(stage)


def names(stage: Stage) -> list[str]:
    return [one.id for one in stage.announcer.status(ORGANISATION).agents]
