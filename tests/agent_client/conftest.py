"""What the tests of the agent share."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_client.paths import Places
from tests.agent_client.fleet import Fleet


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.inside(tmp_path / "agent")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second for the first sample's baseline."""
    monkeypatch.setattr("agent_client.collectors.sampling._BASELINE_SECONDS", 0.01)
