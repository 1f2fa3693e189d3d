"""The hub's own metrics, as Prometheus text."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hub_server.bus.port import Bus
from hub_server.vitals.model import figure_name, quantile

LAGS_KEPT = 3000
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class Instruments(Collector):
    """Reads the hub's state when asked, so that nothing is counted twice or on a hot path."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._counters: dict[str, tuple[str, Sequence[str], Callable[[], Mapping[tuple[str, ...], float]]]] = {}
        self._registry = CollectorRegistry()
        self._lags: deque[float] = deque(maxlen=LAGS_KEPT)
        self._loop_lag_seconds = Histogram(
            "jtnt_loop_lag_seconds", "How late the event loop ran", buckets=LAG_BUCKETS, registry=self._registry
        )
        self._collections = [0, 0, 0]
        self._collection_seconds = [0.0, 0.0, 0.0]
        self._longest_collection_seconds = 0.0
        self._collection_started = 0.0
        self._registry.register(self)

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        self._gauges[name] = (documentation, read)

    def count(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A counter without labels; `read` returns the count since the start."""
        self.counter(name, documentation, (), lambda: {(): read()})

    def counter(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[tuple[str, ...], float]],
    ) -> None:
        """`read` returns values of `labels` → count since the start; it is called in a thread."""
        self._counters[name] = (documentation, labels, read)

    def observe_lag(self, seconds: float) -> None:
        """Note how late the event loop ran."""
        self._loop_lag_seconds.observe(seconds)
        self._lags.append(seconds)

    async def run(self) -> None:
        """Count garbage collections until cancelled."""
        gc.callbacks.append(self._collected)
        try:
            await asyncio.Event().wait()
        finally:
            gc.callbacks.remove(self._collected)

    def text(self) -> bytes:
        """Return the exposition; called in a thread."""
        return generate_latest(self._registry)

    def figures(self) -> dict[str, float]:
        """Return all by one name each, with the loop's lag since the last call; called in a thread."""
        lags = [self._lags.popleft() for _ in range(len(self._lags))]
        found = {"loop_lag_p99_ms": 1000 * quantile(lags, 0.99), "loop_lag_max_ms": 1000 * max(lags, default=0.0)}
        for metric in self.collect():
            for sample in metric.samples:
                found[figure_name(sample.name, sample.labels)] = float(sample.value)
        return found

    def collect(self) -> Iterable[Metric]:
        for name, (documentation, read) in self._gauges.items():
            yield GaugeMetricFamily(name, documentation, value=read())
        for name, (documentation, labels, counts) in self._counters.items():
            family = CounterMetricFamily(name, documentation, labels=labels)
            for values, count in counts().items():
                family.add_metric(values, count)
            yield family
        buffered = GaugeMetricFamily("jtnt_bus_buffered", "Events a listener has yet to take", labels=["listener"])
        dropped = CounterMetricFamily("jtnt_bus_dropped", "Events a listener was too slow for", labels=["listener"])
        for subscription in self._bus.subscriptions():
            buffered.add_metric([subscription.name], subscription.buffered)
            dropped.add_metric([subscription.name], subscription.dropped)
        yield buffered
        yield dropped
        yield from self._garbage()

    def _garbage(self) -> Iterable[Metric]:
        runs = CounterMetricFamily("jtnt_gc_collections", "Garbage collections", labels=["generation"])
        seconds = CounterMetricFamily("jtnt_gc_seconds", "Time spent collecting garbage", labels=["generation"])
        for generation, (count, took) in enumerate(zip(self._collections, self._collection_seconds, strict=True)):
            runs.add_metric([str(generation)], count)
            seconds.add_metric([str(generation)], took)
        yield runs
        yield seconds
        yield GaugeMetricFamily(
            "jtnt_gc_longest_seconds", "The longest garbage collection so far", value=self._longest_collection_seconds
        )

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        """Runs inside the collector, at any point of any code: plain numbers only, no lock may be taken here."""
        if phase == "start":
            self._collection_started = time.perf_counter()
            return
        took = time.perf_counter() - self._collection_started
        generation = info["generation"]
        self._collections[generation] += 1
        self._collection_seconds[generation] += took
        self._longest_collection_seconds = max(self._longest_collection_seconds, took)
