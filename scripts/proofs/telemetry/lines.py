"""Telemetry that loses nothing. Each line runs in full length and prints what it saw."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final

from scripts.proofs.report import Report
from scripts.proofs.telemetry import absence, contract, kills, outage, power, stall

Line = Callable[[Report], Coroutine[None, None, None]]
LINES: Final[tuple[Line, ...]] = (
    kills.show,
    power.show,
    absence.show,
    outage.show,
    contract.show,
    stall.show,
)


async def prove(report: Report) -> None:
    for line in LINES:
        await line(report)
