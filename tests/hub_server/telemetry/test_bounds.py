"""What one agent may send within an hour; what is beyond it is acknowledged, not stored, and said."""

from __future__ import annotations

import msgspec
import pytest
from structlog.testing import capture_logs

from hub_server.telemetry import bounds
from hub_server.telemetry.bounds import (
    HOUR_MS,
    KINDS_PER_AGENT_MAX,
    NAMES_PER_AGENT_MAX,
    NAMES_PER_HOUR_MAX,
    Allowances,
)
from protocol.frames import Sample
from protocol.limits import METRIC_NAMES_MAX
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import DAY_MS, NOW_MS, Hub, frame_of, metrics, sample

FITTING = NAMES_PER_HOUR_MAX // METRIC_NAMES_MAX


def wide(seq: int, *, ts: int | None = None, kind: str = "custom.broken") -> Sample:
    """A sample that has as many names as it may, none of which another one has."""
    return sample(seq, ts=ts, kind=kind, **{f"{kind}{seq}_{number}": number for number in range(METRIC_NAMES_MAX)})


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(bounds, "SAMPLES_PER_HOUR_MAX", 3)
    return 3


async def test_names_that_are_new_with_each_sample_are_taken_up_to_the_bound_and_it_is_said_once(hub: Hub) -> None:
    broken = [wide(seq) for seq in range(1, FITTING + 7)]
    with capture_logs() as logs:
        await hub.record("a1", frame_of(*broken[:5]), frame_of(*broken[5:], sample(FITTING + 7)))
        await hub.record("a2", frame_of(wide(1), sample(2)))
    assert [stored.metric_type for stored in hub.store.of("a1")] == ["custom.broken"] * FITTING + ["system"]
    assert len(hub.store.of("a2")) == 2, "nobody else loses anything"
    assert hub.recorder.too_many_samples == 6
    assert hub.telemetry.acknowledged("a1")["live"].ranges == [(1, FITTING + 7)], "it would be sent for ever"
    said = [line for line in logs if "more names or samples" in line["event"]]
    assert [(line["agent_id"], line["metric_type"]) for line in said] == [("a1", "custom.broken")]


async def test_what_had_names_before_goes_on_and_the_next_hour_begins_anew(hub: Hub, clock: FakeClock) -> None:
    await hub.record("a1", frame_of(*(wide(seq) for seq in range(1, FITTING + 3))))
    again = msgspec.structs.replace(wide(1), seq=50)
    await hub.record("a1", frame_of(again, wide(51)))
    assert (hub.recorder.stored_samples, hub.recorder.too_many_samples) == (FITTING + 1, 3)
    clock.advance(3600)
    await hub.record("a1", frame_of(wide(52, ts=NOW_MS + HOUR_MS)))
    assert hub.recorder.too_many_samples == 3


async def test_each_hour_of_history_has_room_of_its_own(hub: Hub, few_samples: int) -> None:
    history = [sample(seq, ts=NOW_MS - HOUR_MS * (seq % 4) - seq) for seq in range(40)]
    await hub.record("a1", frame_of(*history[1:20]), frame_of(*history[20:]))
    hours = [stored.ts_ms // HOUR_MS for stored in hub.store.of("a1")]
    assert {hour: hours.count(hour) for hour in set(hours)} == dict.fromkeys(set(hours), few_samples)
    assert len(set(hours)) >= 4


async def test_commits_that_failed_take_nothing_from_the_allowance(hub: Hub, few_samples: int) -> None:
    hub.store.failures = 1
    await hub.record("a1", metrics(*range(1, few_samples + 1)))
    assert (len(hub.store.of("a1")), hub.recorder.too_many_samples) == (few_samples, 0)


async def test_an_agent_whose_types_take_turns_has_no_more_of_them_in_an_hour_than_are_counted(hub: Hub) -> None:
    """What was not heard of for a day makes room for another type; an agent says itself how old its samples are."""
    long_ago = NOW_MS - 2 * DAY_MS
    for start in range(1, 4 * KINDS_PER_AGENT_MAX, 50):
        frame = frame_of(*(sample(seq, ts=long_ago, kind=f"t{seq}") for seq in range(start, start + 50)))
        hub.telemetry.receive("o1", "a1", frame)
        await hub.record("a1", frame)
    assert len({stored.metric_type for stored in hub.store.of("a1")}) <= KINDS_PER_AGENT_MAX
    assert hub.recorder.too_many_samples >= 3 * KINDS_PER_AGENT_MAX


def test_a_kind_with_many_names_does_not_keep_out_others() -> None:
    allowance = Allowances().of("a1", 7)
    greedy = [wide(seq, kind=f"t{seq % 9}") for seq in range(60)]
    taken = [allowance.takes(each.metric_type, each.ts, each.metric_data) for each in greedy]
    assert sum(taken) <= NAMES_PER_AGENT_MAX // METRIC_NAMES_MAX
    assert allowance.takes("system", NOW_MS, {"cpu_percent": 1.0})
    assert allowance.takes("system", NOW_MS, {"cpu_percent": 2.0})


def test_what_is_known_of_an_agent_is_forgotten_with_the_hour_and_with_the_agent() -> None:
    allowances = Allowances()
    first = allowances.of("a1", 7)
    assert allowances.of("a1", 7) is first
    later = allowances.of("a1", 8)
    assert later is not first
    allowances.forget("a1")
    assert allowances.of("a1", 8) is not later
