"""History for charts: what people ask of stored samples."""

from __future__ import annotations

import asyncio
from typing import Final

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.errors import InvalidRequest, Unavailable
from hub_server.telemetry.engine import RESOLUTIONS_SECONDS, Series, resolution_seconds
from hub_server.telemetry.port import MetricStore
from protocol.telemetry import MetricSeries, MetricsQuery, MetricsQueryReply

QUERY_VALUES_MAX: Final = 250_000
QUERY_DEADLINE_SECONDS: Final = 10.0


class MetricHistory:
    def __init__(self, *, store: MetricStore) -> None:
        self._store = store

    async def query(self, principal: Principal, request: MetricsQuery) -> MetricsQueryReply:
        organisation_id = authorize(principal, Permission.FLEET_READ)
        agent_ids = request.agent_ids or []
        if request.from_ >= request.to:
            raise InvalidRequest("`from` must be before `to`", path="$.from")
        if len(agent_ids) * len(request.metrics) * request.max_points > QUERY_VALUES_MAX:
            raise InvalidRequest(
                f"agents, metrics and points may multiply to {QUERY_VALUES_MAX} at most; ask for fewer",
                path="$.maxPoints",
            )
        try:
            async with asyncio.timeout(QUERY_DEADLINE_SECONDS):
                return await self._series(organisation_id, agent_ids, request)
        except TimeoutError as error:
            raise Unavailable("the query took too long; ask for fewer agents or a shorter time") from error

    async def _series(self, organisation_id: str, agent_ids: list[str], request: MetricsQuery) -> MetricsQueryReply:
        resolution = resolution_seconds(request.to - request.from_, request.max_points)
        if resolution == RESOLUTIONS_SECONDS[0]:
            raw = [await self._read(organisation_id, agent_id, request, 0) for agent_id in agent_ids]
            if all(len(series.timestamps) <= request.max_points for series in raw):
                return MetricsQueryReply(series=raw, resolution_sec=0)
        series = [await self._read(organisation_id, agent_id, request, resolution) for agent_id in agent_ids]
        return MetricsQueryReply(series=series, resolution_sec=resolution)

    async def _read(
        self, organisation_id: str, agent_id: str, request: MetricsQuery, resolution_sec: int
    ) -> MetricSeries:
        names = list(dict.fromkeys(request.metrics))
        columns = await self._store.raw(
            organisation_id, agent_id, request.metric_type, names, request.from_, request.to
        )
        series = Series(
            names, resolution_ms=resolution_sec * 1000, origin_ms=0 if request.max_points > 1 else request.from_
        )
        none = [None] * len(columns.timestamps)
        values = zip(*(columns.values.get(name, none) for name in names), strict=True)
        series.add(zip(columns.timestamps, values, strict=True))
        return series.result(agent_id)
