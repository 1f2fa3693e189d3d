"""The seeded simulation in full: many worlds of virtual time without a breach, and every planted bug found."""

from __future__ import annotations

import sys
from typing import Final

from scripts.proofs.report import Report
from tests.system.programs import outcome_of

SEEDS: Final = 1000
DEADLINE_SECONDS: Final = 600.0


async def show(report: Report) -> None:
    await report.show(f"simulation: {SEEDS:,} seeds, no double run, no lost result, no invented state", seeds)
    await report.show("simulation: every planted bug is found", bugs)


async def seeds() -> str:
    return await _said("0", "--count", str(SEEDS))


async def bugs() -> str:
    return await _said("--bugs")


async def _said(*arguments: str) -> str:
    outcome = await outcome_of(
        sys.executable, "-m", "tests.simulation", *arguments, deadline_seconds=DEADLINE_SECONDS, PYTHONHASHSEED="0"
    )
    assert outcome.code == 0, (outcome.said + outcome.complained)[-3000:]
    return outcome.said.strip().splitlines()[-1]
