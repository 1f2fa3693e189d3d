"""A thread that computes for long rests as much, in short turns."""

from __future__ import annotations

import pytest

from hub_server.rests import REST_MAX_SECONDS, WORK_SECONDS, Rests


@pytest.mark.parametrize(
    ("worked_seconds", "rested_seconds"),
    [
        ([WORK_SECONDS / 2], []),
        ([WORK_SECONDS / 2, WORK_SECONDS / 2], [WORK_SECONDS]),
        ([WORK_SECONDS, WORK_SECONDS / 4, WORK_SECONDS], [WORK_SECONDS, 1.25 * WORK_SECONDS]),
        ([1.0], [REST_MAX_SECONDS]),
    ],
)
def test_it_rests_as_long_as_it_has_worked(worked_seconds: list[float], rested_seconds: list[float]) -> None:
    computed = 0.5  # by what this thread did before
    slept: list[float] = []
    rests = Rests(computed_seconds=lambda: computed, sleep=slept.append)
    rests.rest()
    for seconds in worked_seconds:
        computed += seconds
        rests.rest()
    assert slept == pytest.approx(rested_seconds)
