"""A run as people read it, and as programs do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from hub_server.bench.figures import Figure
from hub_server.bench.machine import PACE_TURNS, QUIET_SHARE, Machine

HEAD = ("figure", "unit", "n", "p50", "p99", "max", "target", "", "note")
GIGABYTE = 1e9


class Row(Struct, frozen=True):
    """A figure as it is written to JSON, with its verdict in words."""

    figure: Figure
    verdict: str


class Run(Struct, frozen=True):
    """`others_share`: how much of all cores other programs used. `pace_ms`: before and after, as machine.py says."""

    at: datetime
    command: list[str]
    machine: Machine
    others_share: float
    pace_ms: tuple[float, float]
    seconds: float
    rows: list[Row]


def text_of(run: Run) -> str:
    """Return the run as a table in Markdown, under a line on the machine."""
    rows = [HEAD, *(_cells(row.figure) for row in run.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, _line(["-" * width for width in widths], widths))
    return "\n".join([*_heading(run), "", *lines])


def _heading(run: Run) -> Sequence[str]:
    machine = run.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    quiet = "" if run.others_share <= QUIET_SHARE else ": not a quiet machine, so take the times with care"
    busy = f"other programs used {run.others_share:.0%} of the cores meanwhile{quiet}"
    pace = " ms before and ".join(f"{pace:.0f}" for pace in run.pace_ms)
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / GIGABYTE:.0f} GB, {machine.kernel}",
        f"Python {machine.python}, {machine.openssl}; {versions}",
        f"{run.at:%Y-%m-%d %H:%M} UTC, `bench {' '.join(run.command)}`, {run.seconds:.0f} s; {busy}",
        f"pace: {PACE_TURNS / 1e6:g} million turns of an empty Python loop took {pace} ms after the run",
    )


def _cells(figure: Figure) -> Sequence[str]:
    values = (_number(value) for value in (figure.p50, figure.p99, figure.max))
    return (figure.name, figure.unit, str(figure.n), *values, str(figure.target), figure.verdict, figure.note)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if not value:
        return "0"
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{decimals}f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
