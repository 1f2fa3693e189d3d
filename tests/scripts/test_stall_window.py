"""When the window of the stalled browser may begin."""

from __future__ import annotations

import pytest

from scripts.proofs.telemetry.stall import closes_soon

HOUR = 1_795_345_200.0
"""A full hour."""


@pytest.mark.parametrize(
    ("minute", "second", "soon"),
    [(1, 59, True), (2, 0, True), (5, 59, True), (6, 0, False), (56, 30, False), (56, 31, True)],
)
def test_a_window_meets_no_closing_of_an_hour(minute: int, second: int, soon: bool) -> None:
    assert closes_soon(HOUR + 60 * minute + second) is soon
