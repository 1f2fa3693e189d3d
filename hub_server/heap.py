"""Keeps full garbage collections short: what lives for months is put out of the collector's sight.

A full collection walks every object it sees: with 10,000 agents connected, over a million of them, while nothing else
runs. Sessions that have settled are therefore frozen (gc.freeze), a batch at a time, each after a collection that has
only that batch to walk; and again while the fleet is young, whose first minutes make what stays: newest values, the
measurements of clocks. A frozen object is still freed when its last reference goes; only a cycle of frozen ones is not.
Sessions break their cycles when they end, and once a day everything is thawed and looked through.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import structlog
from msgspec import Struct

from hub_server.clock import Clock

log = structlog.get_logger(component="hub")

LOOK_SECONDS: Final = 1.0
BATCH_SESSIONS: Final = 150
SETTLED_SECONDS: Final = 10.0
YOUNG_SECONDS: Final = 300.0
YOUNG_FREEZES_APART_SECONDS: Final = 30.0
THAW_SECONDS: Final = 24 * 3600.0
TRIM_SESSIONS: Final = 200


class Step(Enum):
    FREEZE = auto()
    TRIM = auto()
    THAW = auto()


class Heap(Struct):
    """What is known of the heap. Times are monotonic seconds; `entered` counts sessions since the start."""

    now: float
    entered: int
    live: int
    thawed_at: float
    frozen_entered: int = 0
    frozen_at: float = 0.0
    last_entered_at: float = 0.0
    peak: int = 0


def step_of(heap: Heap) -> Step | None:
    """Return what to do now, None for nothing."""
    fresh = heap.entered - heap.frozen_entered
    if heap.now - heap.thawed_at >= THAW_SECONDS:
        return Step.THAW
    if fresh >= BATCH_SESSIONS or (fresh > 0 and heap.now - heap.last_entered_at >= SETTLED_SECONDS):
        return Step.FREEZE
    if heap.peak >= TRIM_SESSIONS and heap.live < heap.peak / 2:
        return Step.TRIM
    is_young = heap.frozen_entered > 0 and heap.frozen_at < heap.last_entered_at + YOUNG_SECONDS
    if is_young and heap.now - heap.frozen_at >= YOUNG_FREEZES_APART_SECONDS:
        return Step.FREEZE
    return None


class HeapKeeper:
    """`entered`: how many sessions began since the start; `live`: how many there are."""

    def __init__(self, *, clock: Clock, entered: Callable[[], int], live: Callable[[], int]) -> None:
        self._clock = clock
        self._entered = entered
        self._live = live
        now = clock.monotonic()
        self._heap = Heap(now=now, entered=0, live=0, thawed_at=now)
        self.freezes = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> Step | None:
        """Do what is due and return what it was."""
        heap = self._heap
        heap.now, heap.live = self._clock.monotonic(), self._live()
        entered = self._entered()
        if entered != heap.entered:
            heap.entered, heap.last_entered_at = entered, heap.now
        heap.peak = max(heap.peak, heap.live)
        step = step_of(heap)
        match step:
            case Step.FREEZE:
                self._freeze()
            case Step.TRIM:
                gc.collect()
                _trim()
                heap.peak = heap.live
            case Step.THAW:
                gc.unfreeze()
                self._freeze()
                _trim()
                heap.thawed_at = heap.now
                log.info("heap looked through", agents=heap.live)
            case None:
                pass
        return step

    def _freeze(self) -> None:
        gc.collect()
        gc.freeze()
        self.freezes += 1
        self._heap.frozen_entered, self._heap.frozen_at = self._heap.entered, self._heap.now


def _trim() -> None:
    """Give freed memory back to the system, where the C library can."""
    if sys.platform.startswith("linux"):
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another C library
            log.debug("memory not trimmed")
