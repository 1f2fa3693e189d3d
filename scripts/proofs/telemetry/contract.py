"""Both stores keep one contract, and take every sample once whatever happens on its way."""

from __future__ import annotations

import re

from scripts.proofs.report import Report
from tests.system.programs import ROOT, outcome_of, program

DEADLINE_SECONDS = 900.0
SUITE = "tests/hub_server/telemetry/contract"


async def show(report: Report) -> None:
    words = (
        "one store contract on SQLite and PostgreSQL, with deduplication under duplicates, reorder, epochs, midnight"
    )
    await report.show(words, held)


async def held() -> str:
    """Return how many tests held. Raises AssertionError with pytest's own words when one did not."""
    outcome = await outcome_of(
        program("python"),
        *("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(ROOT / SUITE)),
        deadline_seconds=DEADLINE_SECONDS,
    )
    assert outcome.code == 0, outcome.said[-1500:]
    passed = re.search(r"\d+ passed", outcome.said)
    assert passed, outcome.said[-500:]
    return f"{passed[0]}, each on both"
