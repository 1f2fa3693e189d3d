"""The REST part, asked by schemathesis what its own description allows and forbids."""

from __future__ import annotations

import asyncio
import warnings
from functools import partial
from pathlib import Path
from typing import Final

from scripts.proofs.report import Report
from scripts.proofs.trust.own_hub import own_hub
from tests.integration.fuzzing import CHECKS, Fuzzed, fuzz
from tests.integration.hub import RunningHub

EXAMPLES: Final = 200


async def show(report: Report) -> None:
    for listener in ("people", "agents"):
        await report.show(
            f"schemathesis: every answer of the {listener}' listener is as described", partial(_on, listener)
        )


async def _on(listener: str) -> str:
    async with own_hub() as (hub, folder):
        before = await hub.rows()
        with warnings.catch_warnings(action="ignore"):  # of the library's own, in its threads
            fuzzed = await asyncio.to_thread(_fuzzed, hub, listener, folder)
        assert not fuzzed.failures, fuzzed.failures
        assert not [status for status in fuzzed.statuses if status >= 500], fuzzed.statuses
        changed = await hub.changed_since(before)
        assert not changed, changed
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(fuzzed.statuses.items()))
    return f"{fuzzed.statuses.total()} requests, {len(CHECKS)} checks each, 0 failed; {answers}"


def _fuzzed(hub: RunningHub, listener: str, folder: Path) -> Fuzzed:
    if listener == "people":
        return fuzz(hub.web_url, 3000, examples=EXAMPLES)
    root = folder / "root.pem"
    root.write_text(hub.authority.root_pem)
    return fuzz(hub.agent_url.replace("127.0.0.1", "localhost"), 3001, root=root, examples=EXAMPLES)
