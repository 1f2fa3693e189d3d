"""A store of history in memory, for what is asked of one: `raw` and `rollups` as the port has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.port import Columns, MetricStore, RollupColumns, StoreFailed
from hub_server.telemetry.rollups import between, rolled

Samples = Sequence[tuple[int, Mapping[str, float]]]
"""(time in ms, values), in ascending order of time."""


class MemoryStore:
    """`reads` are the histories that were read, in order. `waits`: how long each takes, if not at once."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str, str], Samples] = {}
        self.reads: list[Resolution] = []
        self.asked_agents: list[int] = []
        self.fails = False
        self.hangs: Any = None

    def as_port(self) -> MetricStore:
        store: Any = self
        port: MetricStore = store
        return port

    def put(self, agent_id: str, samples: Samples, *, organisation_id: str = "o", kind: str = "system") -> None:
        self.samples[organisation_id, agent_id, kind] = samples

    async def raw(
        self, organisation_id: str, agent_id: str, metric_type: str, metrics: Sequence[str], from_ms: int, to_ms: int
    ) -> Columns:
        await self._read(Resolution.RAW, 1)
        found = self._found(organisation_id, agent_id, metric_type, from_ms, to_ms)
        return Columns(
            [at for at, _ in found], {metric: [values.get(metric) for _, values in found] for metric in metrics}
        )

    async def rollups(
        self,
        organisation_id: str,
        agent_ids: Sequence[str],
        metric_type: str,
        metrics: Sequence[str],
        resolution: Resolution,
        from_ms: int,
        to_ms: int,
    ) -> Mapping[str, RollupColumns]:
        await self._read(resolution, len(agent_ids))
        found = {}
        for agent_id in agent_ids:
            samples = self.samples.get((organisation_id, agent_id, metric_type), ())
            if samples:
                rows = [{name: value for name, value in values.items() if name in metrics} for _, values in samples]
                rollup = rolled([at for at, _ in samples], rows, BUCKET_MS[resolution])
                found[agent_id] = between(rollup, from_ms, to_ms)
        return found

    async def _read(self, resolution: Resolution, agents: int) -> None:
        self.reads.append(resolution)
        self.asked_agents.append(agents)
        if self.fails:
            raise StoreFailed("the disk is gone", temporary=True)
        if self.hangs is not None:
            await self.hangs

    def _found(self, organisation_id: str, agent_id: str, kind: str, from_ms: int, to_ms: int) -> Samples:
        samples = self.samples.get((organisation_id, agent_id, kind), ())
        return [(at, values) for at, values in samples if from_ms <= at < to_ms]
