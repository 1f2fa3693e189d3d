"""Orders whose cancel came first, as it may when a hub's frames take different ways."""

from __future__ import annotations

from pathlib import Path

from protocol.enumerations import CommandOutcome, CommandReason, JobState
from tests.agent_client.clock import SteppingClock
from tests.agent_client.lives import Life, order


async def test_an_order_that_was_cancelled_before_it_came_never_runs(tmp_path: Path) -> None:
    life, mark = Life(tmp_path, SteppingClock()), tmp_path / "mark"
    life.jobs.cancel("overtaken-1")
    assert life.jobs.state_of("overtaken-1").state is JobState.UNKNOWN
    result = life.jobs.receive(order("overtaken-1", "touch", str(mark)))
    assert result is not None
    assert (result.status, result.reason) == (CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON)
    async with life.running():
        assert life.jobs.receive(order("overtaken-2", "true")) is None
        await life.finished("overtaken-2")
    assert not mark.exists()
    life.close()
