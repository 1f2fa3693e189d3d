"""How many orders are accepted before those that wait have ended, and are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.execution.verification import Rule
from protocol.frames import CommandResult
from tests.agent_client.clock import SteppingClock
from tests.agent_client.fleet import own_id
from tests.agent_client.lives import Life, order


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path, SteppingClock())
    yield life
    life.close()


async def test_too_many_unfinished_jobs_are_refused(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_client.execution.jobs.UNFINISHED_MAX", 2)
    for number in range(2):
        assert life.jobs.receive(order(own_id(f"job-{number}"), "true")) is None
    refusal = life.jobs.receive(order(own_id("job-2"), "true"))
    assert refusal is not None
    assert refusal.rule == Rule.TOO_MANY_JOBS


async def test_no_order_is_accepted_while_the_hub_has_too_many_results_to_take(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_client.execution.jobs.OPEN_MAX", 2)
    async with life.running():
        for number in range(2):
            assert life.jobs.receive(order(own_id(f"job-{number}"), "true")) is None
        await life.first(CommandResult, 2)
        refusal = life.jobs.receive(order(own_id("job-2"), "true"))
        assert refusal is not None
        assert refusal.rule == Rule.TOO_MANY_JOBS
        assert "the hub has not taken the results of 2 jobs" in refusal.result
        assert life.jobs.receive(order(own_id("job-1"), "true")) is None, "one that is known is told again"
        life.jobs.settled(own_id("job-0"))
        assert life.jobs.receive(order(own_id("job-2"), "true")) is None
