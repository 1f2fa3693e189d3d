"""The shorter form of what the proofs of telemetry do for ten minutes: cuts of power, and agents killed with -9."""

from __future__ import annotations

import os

import pytest

from scripts.proofs.telemetry.power import NoFuse, cut_often


async def test_what_was_acknowledged_survives_cuts_of_power_and_killed_agents() -> None:
    try:
        said = await cut_often(agents=4, crews=2, cuts=2, steady_seconds=3.0)
    except NoFuse as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    assert " 0 lost, 0 twice" in said
