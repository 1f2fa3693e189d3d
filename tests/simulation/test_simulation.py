"""Seeds that are simulated in the suite; each can be told in full: `python -m tests.simulation SEED`."""

from __future__ import annotations

import sys
from typing import Final

from tests.system.programs import Outcome, outcome_of

SEEDS: Final = 1000
DEADLINE_SECONDS: Final = 300.0


async def simulation(*arguments: str) -> Outcome:
    """Run it in a process of its own: what it puts in place of parts of the product is there for all of that."""
    command = (sys.executable, "-m", "tests.simulation", *arguments)
    return await outcome_of(*command, deadline_seconds=DEADLINE_SECONDS, PYTHONHASHSEED="0")


async def test_no_job_runs_twice_no_result_is_lost_and_no_state_invented_in_a_thousand_worlds() -> None:
    outcome = await simulation("0", "--count", str(SEEDS))
    assert outcome.code == 0, outcome.said + outcome.complained
    assert f"{SEEDS} seeds, 0 broken" in outcome.said


async def test_every_planted_bug_is_found() -> None:
    outcome = await simulation("--bugs")
    assert outcome.code == 0, outcome.said + outcome.complained
    assert "NOT FOUND" not in outcome.said


async def test_a_seed_tells_the_same_story_each_time() -> None:
    first, second = await simulation("7"), await simulation("7")
    assert first.said == second.said
    assert "runs job" in first.said
