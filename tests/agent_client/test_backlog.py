"""What waits for an executor is counted as it comes and goes."""

from __future__ import annotations

import pytest

from agent_client.execution import backlog
from agent_client.execution.backlog import Backlog
from protocol.frames import Command, CommandCancel


def order(command_id: str, size_bytes: int) -> Command:
    return Command(
        command_id=command_id,
        command_type="exec",
        command_data={},
        payload="x" * size_bytes,
        signatures=[],
        expires_at=1,
    )


def test_what_goes_makes_room_and_what_comes_again_counts_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "BYTES_MAX", 100)
    waiting = Backlog()
    assert waiting.keep(order("a", 60))
    assert not waiting.keep(order("b", 60))
    assert waiting.keep(order("a", 30))
    assert waiting.keep(order("b", 60))
    assert not waiting.keep(order("a", 50))
    waiting.drop("b", CommandCancel)
    waiting.drop("b", Command)
    waiting.drop("b", Command)
    assert waiting.keep(order("a", 50))
    assert waiting.frames() == [order("a", 50)]


def test_only_so_many_wait_and_one_that_waits_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "FRAMES_MAX", 2)
    waiting = Backlog()
    cancel = CommandCancel(command_id="a")
    assert waiting.keep(order("a", 1))
    assert waiting.keep(cancel)
    assert not waiting.keep(order("b", 1))
    assert waiting.keep(order("a", 1))
    assert list(waiting) == [("a", "Command"), ("a", "CommandCancel")]
    waiting.drop("a", Command)
    assert waiting.keep(order("b", 1))
    assert waiting.frames() == [cancel, order("b", 1)]
