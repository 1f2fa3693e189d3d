"""A measured figure beside its target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from statistics import median
from typing import Final

from msgspec import Struct


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    VOID = "void"
    """The run did not hold what the figure needs."""
    NONE = ""
    """There is no target."""


class Target(Struct, frozen=True):
    """The most that each part of a figure may be, and the least of p50; None where nothing was promised."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        bounds = (("p50 ≤", self.p50), ("p99 ≤", self.p99), ("max ≤", self.max), ("p50 ≥", self.at_least))
        return ", ".join(f"{name} {bound:g}" for name, bound in bounds if bound is not None)


NO_TARGET: Final = Target()


class Figure(Struct, frozen=True):
    """One row of the table. A single value stands in `p50`, with `n` 1."""

    name: str
    unit: str
    n: int
    p50: float | None = None
    p99: float | None = None
    max: float | None = None
    target: Target = NO_TARGET
    note: str = ""
    is_void: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.is_void:
            return Verdict.VOID
        if self.target == NO_TARGET:
            return Verdict.NONE
        pairs = ((self.p50, self.target.p50), (self.p99, self.target.p99), (self.max, self.target.max))
        met = all(bound is None or (value is not None and value <= bound) for value, bound in pairs)
        least = self.target.at_least
        enough = least is None or (self.p50 is not None and self.p50 >= least)
        return Verdict.MET if met and enough else Verdict.MISSED


def single(name: str, unit: str, value: float, target: float | None = None, note: str = "") -> Figure:
    return Figure(name=name, unit=unit, n=1, p50=value, target=Target(p50=target), note=note)


def spread(name: str, unit: str, values: Iterable[float], target: Target = NO_TARGET, note: str = "") -> Figure:
    """Return the figure of many values; void without any."""
    ordered = sorted(values)
    if not ordered:
        return void(name, unit, target, "nothing was measured")
    return Figure(
        name=name,
        unit=unit,
        n=len(ordered),
        p50=quantile(ordered, 0.5),
        p99=quantile(ordered, 0.99),
        max=ordered[-1],
        target=target,
        note=note,
    )


def of_runs(name: str, unit: str, values: Sequence[float], target: Target = NO_TARGET, note: str = "") -> Figure:
    """Return the figure of several runs: the median in p50; the least and the most stand in the note."""
    if not values:
        return void(name, unit, target, "nothing was measured")
    runs = f"{len(values)} runs: {min(values):.4g} to {max(values):.4g}" if len(values) > 1 else "1 run"
    told = f"{runs}; {note}" if note else runs
    return Figure(name=name, unit=unit, n=len(values), p50=median(values), target=target, note=told)


def void(name: str, unit: str, target: Target, why: str) -> Figure:
    return Figure(name=name, unit=unit, n=0, target=target, note=why, is_void=True)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the least of the ascending values below or at which `share` of them lie (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
