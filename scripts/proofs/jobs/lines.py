"""Jobs run at most once and lose nothing. Each line runs in full length and prints what it saw."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final

from scripts.proofs.jobs import browser, crashes, flood, forgeries, injection, simulated
from scripts.proofs.report import Report

Line = Callable[[Report], Coroutine[None, None, None]]
LINES: Final[tuple[Line, ...]] = (
    simulated.show,
    crashes.show,
    forgeries.show,
    injection.show,
    flood.show,
    browser.show,
)


async def prove(report: Report) -> None:
    for line in LINES:
        await line(report)
