from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.spool.database import Database
from agent_client.spool.spool import Spool, SpoolBound
from agent_client.transport.absences import Absences
from protocol.frames import MetricData
from tests.agent_client.clock import START_MS, DrivenClock

BOUND = SpoolBound(2**26, 72 * 3600)


class Life:
    """One life of the agent on a database."""

    def __init__(self, path: Path, clock: DrivenClock) -> None:
        self.clock = clock
        self.database = Database(path)
        self.spool = Spool(self.database, clock, BOUND)
        self.absences = Absences(self.database, self.spool, clock)

    def told(self) -> list[MetricData]:
        return [event.data for event in self.spool.events() if event.kind == "disconnected"]


@pytest.fixture
def clock() -> DrivenClock:
    return DrivenClock()


@pytest.fixture
def life(tmp_path: Path, clock: DrivenClock) -> Iterator[Life]:
    life = Life(tmp_path / "spool.db", clock)
    yield life
    life.database.close()


def again(life: Life) -> Life:
    life.database.close()
    return Life(life.database.path, life.clock)


def test_the_first_session_ends_no_absence(life: Life) -> None:
    life.absences.failed()
    life.absences.ended()
    assert life.told() == []
    assert life.absences.last() is None


def test_each_session_that_ended_is_told_once_the_next_one_is_up(life: Life, clock: DrivenClock) -> None:
    life.absences.ended()
    life.absences.began(4503, "hub draining")
    assert life.told() == []
    clock.advance(20)
    life.absences.failed()
    clock.wall_ms -= 3_600_000
    clock.advance(40)
    life.absences.failed()
    life.absences.ended()
    told = {"code": 4503, "reason": "hub draining", "at_ms": START_MS, "for_ms": 60_000, "attempts": 3}
    assert life.told() == [told]
    life.absences.began(1006, "connection lost")
    life.absences.ended()
    assert [data["attempts"] for data in life.told()] == [3, 1]


def test_an_absence_goes_on_through_an_orderly_restart(life: Life, clock: DrivenClock) -> None:
    life.absences.ended()
    life.absences.began(1006, "connection lost")
    life.absences.failed()
    life.absences.began(1000, "operator")
    clock.advance(100)
    life = again(life)
    last = life.absences.last()
    assert last is not None
    assert (last.code, last.reason, last.at_ms) == (1006, "connection lost", START_MS)
    life.absences.ended()
    assert [(data["code"], data["for_ms"], data["attempts"]) for data in life.told()] == [(1006, 100_000, 2)]
    life.database.close()


def test_a_session_that_the_agents_own_death_ended_is_told_too(life: Life) -> None:
    life.absences.ended()
    life = again(life)
    life.absences.ended()
    told = life.told()
    assert [(data["code"], data["reason"]) for data in told] == [(1006, "agent ended without a word")]
    assert told[0]["at_ms"] == life.database.last_written_ms
    life = again(life)
    assert life.absences.last() is not None
    life.database.close()
