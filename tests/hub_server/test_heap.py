"""When the heap is frozen, trimmed and thawed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from hub_server.heap import (
    BATCH_SESSIONS,
    SETTLED_SECONDS,
    THAW_SECONDS,
    YOUNG_FREEZES_APART_SECONDS,
    YOUNG_SECONDS,
    Heap,
    HeapKeeper,
    Step,
    step_of,
)
from tests.clocks import FakeClock


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def heap(**known: float) -> Heap:
    return Heap(**{"now": 100.0, "entered": 0, "live": 0, "thawed_at": 0.0, "frozen_at": 100.0, **known})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "step"),
    [
        ({}, None),
        ({"entered": BATCH_SESSIONS, "live": BATCH_SESSIONS, "last_entered_at": 100}, Step.FREEZE),
        ({"entered": BATCH_SESSIONS - 1, "last_entered_at": 100}, None),
        ({"entered": 1, "last_entered_at": 100 - SETTLED_SECONDS}, Step.FREEZE),
        ({"entered": 500, "frozen_entered": 500, "live": 500, "peak": 500}, None),
        ({"entered": 500, "frozen_entered": 500, "live": 249, "peak": 500}, Step.TRIM),
        ({"entered": 9, "frozen_entered": 9, "live": 0, "peak": 9}, None),
        ({"entered": 9, "frozen_entered": 9, "frozen_at": 100 - YOUNG_FREEZES_APART_SECONDS}, Step.FREEZE),
        ({"entered": 9, "frozen_entered": 9, "frozen_at": 101 - YOUNG_FREEZES_APART_SECONDS}, None),
        ({"now": 400, "entered": 9, "frozen_entered": 9, "frozen_at": YOUNG_SECONDS}, None),
        ({"frozen_at": 0}, None),
        ({"now": THAW_SECONDS, "entered": 1}, Step.THAW),
    ],
)
def test_a_step_is_due(known: dict[str, float], step: Step | None) -> None:
    assert step_of(heap(**known)) is step


class Circle:
    """Something that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


def test_settled_sessions_are_out_of_the_collectors_sight_and_come_back_once_a_day() -> None:
    clock, counts = FakeClock(), {"entered": 0, "live": 0}
    keeper = HeapKeeper(clock=clock, entered=lambda: counts["entered"], live=lambda: counts["live"])
    circle = Circle()
    kept = weakref.ref(circle)
    counts.update(entered=3, live=3)
    assert keeper.look() is None
    clock.advance(SETTLED_SECONDS)
    assert keeper.look() is Step.FREEZE
    assert not any(found is circle for found in gc.get_objects())
    del circle
    gc.collect()
    assert kept() is not None
    clock.advance(THAW_SECONDS)
    assert keeper.look() is Step.THAW
    assert kept() is None
    assert keeper.look() is None
