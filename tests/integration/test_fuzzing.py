"""No request makes the REST part fail, and every answer is as docs/openapi.json says."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path

import pytest

from tests.integration.fuzzing import Fuzzed, fuzz
from tests.integration.hub import RunningHub, running_hub


@pytest.mark.parametrize("listener", ["people", "agents"])
async def test_every_answer_is_as_described(folder: Path, listener: str) -> None:
    async with running_hub(folder / "hub") as hub:
        before = await hub.rows()
        with warnings.catch_warnings(action="ignore"):  # of the library's own, in its threads
            fuzzed = await asyncio.to_thread(_fuzzed, hub, listener, folder)
        assert fuzzed.failures == {}
        assert not [status for status in fuzzed.statuses if status >= 500]
        assert fuzzed.statuses.total() > 100
        assert fuzzed.statuses[400] > 10
        assert not await hub.changed_since(before)


def _fuzzed(hub: RunningHub, listener: str, folder: Path) -> Fuzzed:
    if listener == "people":
        return fuzz(hub.web_url, 3000)
    root = folder / "root.pem"
    root.write_text(hub.authority.root_pem)
    return fuzz(hub.agent_url.replace("127.0.0.1", "localhost"), 3001, root=root)
