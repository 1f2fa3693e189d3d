"""What people ask of history: charts of single machines and of groups, from whichever history serves best."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar, assert_never

import structlog

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.clock import Clock, milliseconds
from hub_server.errors import InvalidRequest, Unavailable
from hub_server.telemetry.charts import (
    DAY_MS,
    EASY_SECONDS,
    NO_BUCKETS,
    Effort,
    GroupSeries,
    Plan,
    Span,
    in_points,
    plan_of,
    points_of,
    samples_in,
    series_of_rollup,
    series_of_samples,
)
from hub_server.telemetry.model import BUCKET_MS, HUB_AGENT_PREFIX, Resolution
from hub_server.telemetry.port import Columns, MetricStore, RollupColumns, StoreFailed
from protocol.requests import AgentFilter
from protocol.telemetry import Grouping, MetricSeries, MetricsQuery, MetricsQueryReply

log = structlog.get_logger(component="telemetry")

AHEAD_MS: Final = 10 * 60 * 1000
VALUES_MAX: Final = 100_000
"""Of an answer: series, metrics and points multiplied."""
HARD_SECONDS: Final = 8.0
"""What would take longer by reckoning is not begun."""
DEADLINE_SECONDS: Final = 10.0
AT_ONCE: Final = 4
WAITING_MAX: Final = 500
"""Beside those: each of them may hold the names of a whole fleet."""
SLICE_VALUES: Final = 10_000
SLICE_AGENTS_MAX: Final = 100
FEW_VALUES: Final = 2500
"""What so few values become, a chart of one machine, is reckoned at once: it takes less than a millisecond, and a
thread would wait for the event loop, and the loop for it."""

T = TypeVar("T")
C = TypeVar("C", Columns, RollupColumns)


class Machine(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def site(self) -> str: ...
    @property
    def os_type(self) -> str: ...
    @property
    def tags(self) -> Sequence[str]: ...


class Fleet(Protocol):
    """What history asks of the fleet. Agents of other organisations are never among those returned."""

    def matching(self, organisation_id: str, wanted: AgentFilter) -> Sequence[Machine]: ...

    def named(self, organisation_id: str, agent_ids: Sequence[str]) -> Sequence[Machine]: ...


class MetricHistory:
    """`kept_days`: how far each history goes back."""

    def __init__(self, *, store: MetricStore, fleet: Fleet, clock: Clock, kept_days: Mapping[Resolution, int]) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._kept_ms = {resolution: days * DAY_MS for resolution, days in kept_days.items()}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def query(self, principal: Principal, request: MetricsQuery) -> MetricsQueryReply:
        """Return charts, the finest that `maxPoints` and the length of each history allow.

        Raises InvalidRequest, and Unavailable when too many wait already or when it takes too long.
        """
        organisation_id = authorize(principal, Permission.FLEET_READ)
        if any(agent_id.startswith(HUB_AGENT_PREFIX) for agent_id in request.agent_ids or ()):
            authorize(principal, Permission.HUB_READ)
        if request.from_ >= request.to:
            raise InvalidRequest("`from` must be before `to`", path="$.from")
        groups = self._groups(organisation_id, request)
        reading = self._reading(organisation_id, groups, request)
        reading.check(groups)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._turn():
                return await (reading.of_agents() if request.group_by is None else reading.of_groups(groups))
        except TimeoutError as late:
            raise Unavailable("the query took too long; ask for fewer agents or a shorter time") from late
        except StoreFailed as failed:
            log.warning("history not read", error=str(failed))
            raise Unavailable("the history cannot be read at the moment; try again later") from failed

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING_MAX:
            raise Unavailable("many charts are asked for at once; try again in a moment", retry_after_seconds=1)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    def _groups(self, organisation_id: str, request: MetricsQuery) -> dict[str, list[str]]:
        """Return the agents of each group by its name; without grouping those of the answer in order, as one."""
        machines: Sequence[Machine]
        if request.agent_ids is not None and request.filter is None:
            agent_ids = list(dict.fromkeys(request.agent_ids))
            if request.group_by is None:
                return {"": agent_ids}
            machines = self._fleet.named(organisation_id, agent_ids)
        elif request.filter is not None and request.agent_ids is None:
            machines = self._fleet.matching(organisation_id, request.filter)
        else:
            raise InvalidRequest("give either `agentIds` or a `filter`", path="$.agentIds")
        if request.group_by is None:
            return {"": [machine.id for machine in sorted(machines, key=lambda machine: machine.name.casefold())]}
        groups: dict[str, list[str]] = {}
        for machine in machines:
            for group in _groups_of(machine, request.group_by):
                groups.setdefault(group, []).append(machine.id)
        return dict(sorted(groups.items()))

    def _reading(self, organisation_id: str, groups: Mapping[str, Sequence[str]], request: MetricsQuery) -> _Reading:
        now_ms = milliseconds(self._clock.now())
        oldest_ms = {resolution: now_ms - kept_ms for resolution, kept_ms in self._kept_ms.items()}
        from_ms = max(request.from_, oldest_ms[Resolution.HOUR])
        span = Span(from_ms, max(from_ms + 1, min(request.to, now_ms + AHEAD_MS)))
        agent_ids = list(dict.fromkeys(agent_id for members in groups.values() for agent_id in members))
        effort = Effort(len(agent_ids), len(request.metrics))
        is_grouped = request.group_by is not None
        finest = Resolution.MINUTE if is_grouped else Resolution.RAW
        may_read_samples = not is_grouped and oldest_ms[Resolution.RAW] <= span.from_ms
        return _Reading(
            store=self._store,
            organisation_id=organisation_id,
            agent_ids=agent_ids,
            request=request,
            plan=plan_of(span, request.max_points, effort, oldest_ms=oldest_ms, finest=finest),
            span=span,
            may_read_samples=may_read_samples and effort.seconds(Resolution.RAW, span) <= EASY_SECONDS,
        )


class _Reading:
    """One query on its way through the store; what takes long is reckoned in threads, and never halts the hub."""

    def __init__(
        self,
        *,
        store: MetricStore,
        organisation_id: str,
        agent_ids: Sequence[str],
        request: MetricsQuery,
        plan: Plan,
        span: Span,
        may_read_samples: bool,
    ) -> None:
        self._store = store
        self._organisation_id = organisation_id
        self._agent_ids = agent_ids
        self._request = request
        self._metrics = list(dict.fromkeys(request.metrics))
        self._plan = plan
        self._span = span
        self._may_read_samples = may_read_samples

    def check(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Raises InvalidRequest for an answer or a reading that would be too large."""
        is_grouped = self._request.group_by is not None
        series = len(groups) if is_grouped else len(self._agent_ids)
        points = points_of(self._plan)
        if series * len(self._metrics) * points > VALUES_MAX:
            what, way_out = ("groups", "a narrower `filter`") if is_grouped else ("agents", "`groupBy`, fewer agents")
            raise InvalidRequest(
                f"{series} {what}, {len(self._metrics)} metrics and {points} points multiply to more than"
                f" {VALUES_MAX}; ask with {way_out}, fewer metrics or fewer points",
                path="$.maxPoints",
            )
        if self._plan.seconds > HARD_SECONDS:
            raise InvalidRequest(
                f"the history of {len(self._agent_ids)} agents over this time is too much at once;"
                " ask for fewer agents, fewer metrics or a shorter time",
                path="$.from",
            )

    async def of_agents(self) -> MetricsQueryReply:
        if self._plan.resolution is Resolution.RAW:
            samples = await self._samples()
            if all(len(columns.timestamps) <= self._request.max_points for columns in samples.values()):
                return await self._made_of(samples, self._of_samples)
            return await self._made_of(samples, lambda found: self._of_points(self._in_points(found)))
        found: dict[str, RollupColumns] = {}
        is_sparse = self._may_read_samples
        async for rollups in self._slices():
            is_sparse = is_sparse and all(map(self._is_sparse, rollups.values()))
            found.update(await self._made_of(rollups, self._in_points))
        if is_sparse:
            return await self._made_of(await self._samples(), self._of_samples)
        points = {agent_id: found.get(agent_id, NO_BUCKETS) for agent_id in self._agent_ids}
        return await self._made_of(points, self._of_points)

    async def of_groups(self, groups: Mapping[str, Sequence[str]]) -> MetricsQueryReply:
        totals = {group: GroupSeries(self._plan, self._metrics) for group in groups}
        groups_of: dict[str, list[str]] = {}
        for group, agent_ids in groups.items():
            for agent_id in agent_ids:
                groups_of.setdefault(agent_id, []).append(group)

        def count(rollups: Mapping[str, RollupColumns]) -> None:
            for agent_id, points in self._in_points(rollups).items():
                for group in groups_of[agent_id]:
                    totals[group].add(points)

        async for rollups in self._slices():
            await asyncio.to_thread(count, rollups)
        return await asyncio.to_thread(
            lambda: self._reply([total.result(group, len(groups[group])) for group, total in totals.items()])
        )

    async def _made_of(self, found: Mapping[str, C], reckon: Callable[[Mapping[str, C]], T]) -> T:
        """Return what `reckon` makes of what was found, at once if that is little, else in a thread."""
        timestamps = sum(len(columns.timestamps) for columns in found.values())
        if timestamps * len(self._metrics) <= FEW_VALUES:
            return reckon(found)
        return await asyncio.to_thread(reckon, found)

    async def _slices(self) -> AsyncIterator[Mapping[str, RollupColumns]]:
        """Read some agents at a time, so that no more than the points of a large answer is in memory at once."""
        plan, metrics = self._plan, self._metrics
        buckets = (plan.read.to_ms - plan.read.from_ms) // BUCKET_MS[plan.resolution] + 1
        size = max(1, min(SLICE_AGENTS_MAX, SLICE_VALUES // (buckets * len(metrics))))
        for first in range(0, len(self._agent_ids), size):
            yield await self._store.rollups(
                self._organisation_id,
                self._agent_ids[first : first + size],
                self._request.metric_type,
                metrics,
                plan.resolution,
                plan.read.from_ms,
                plan.read.to_ms,
            )

    async def _samples(self) -> dict[str, Columns]:
        kind, span = self._request.metric_type, self._span
        return {
            agent_id: await self._store.raw(
                self._organisation_id, agent_id, kind, self._metrics, span.from_ms, span.to_ms
            )
            for agent_id in self._agent_ids
        }

    def _is_sparse(self, rollup: RollupColumns) -> bool:
        """Tell whether a chart has room for each sample of these buckets."""
        count = samples_in(rollup)
        return count is not None and count <= self._request.max_points

    def _of_samples(self, samples: Mapping[str, Columns]) -> MetricsQueryReply:
        series = [series_of_samples(agent_id, columns, self._metrics) for agent_id, columns in samples.items()]
        return MetricsQueryReply(series=series, resolution_sec=0, resolution=Resolution.RAW.value)

    def _in_points(self, found: Mapping[str, Columns | RollupColumns]) -> dict[str, RollupColumns]:
        return {agent_id: in_points(columns, self._plan) for agent_id, columns in found.items()}

    def _of_points(self, found: Mapping[str, RollupColumns]) -> MetricsQueryReply:
        return self._reply([series_of_rollup(agent_id, points, self._metrics) for agent_id, points in found.items()])

    def _reply(self, series: list[MetricSeries]) -> MetricsQueryReply:
        plan = self._plan
        return MetricsQueryReply(series=series, resolution_sec=plan.width_ms // 1000, resolution=plan.resolution.value)


def _groups_of(machine: Machine, grouping: Grouping) -> Sequence[str]:
    match grouping:
        case "all":
            return ("",)
        case "site":
            return (machine.site,)
        case "os":
            return (machine.os_type,)
        case "tag":
            return list(dict.fromkeys(machine.tags)) or ("",)
        case _:
            assert_never(grouping)
