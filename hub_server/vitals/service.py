"""The hub's own figures: the newest for people who look, and their history, kept as a sample like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final, Protocol

import structlog
from msgspec import structs

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.clock import Clock, milliseconds
from hub_server.errors import Forbidden
from hub_server.vitals.model import METRIC_TYPE, agent_id_of, bounded
from protocol.enumerations import Lane, Role
from protocol.frames import Metrics, Sample, StreamAck
from protocol.telemetry import HubHealth, HubHealthReply, HubMetrics, MetricsQuery, MetricsQueryReply

log = structlog.get_logger(component="vitals")

SAMPLE_SECONDS: Final = 10.0


class Samples(Protocol):
    """Where samples go, and where their history comes from."""

    def receive(self, organisation_id: str, agent_id: str, frame: Metrics) -> bool: ...

    def acknowledged(self, agent_id: str) -> Mapping[str, StreamAck]:
        """Return what is stored of each stream."""

    async def query(self, principal: Principal, request: MetricsQuery) -> MetricsQueryReply: ...


class VitalsService:
    """Figures belong to the hub's first organisation: its administrators see them, and those of the hub."""

    def __init__(
        self,
        *,
        clock: Clock,
        hub_id: str,
        read: Callable[[], Mapping[str, float]],
        organisation: Callable[[], Awaitable[str]],
        samples: Samples,
    ) -> None:
        """`read` returns the figures of now; it is called in a thread. `organisation` returns the first one's id."""
        self._clock = clock
        self._hub_id = hub_id
        self._read = read
        self._organisation = organisation
        self._samples = samples
        self._started_at: datetime = clock.now()
        self._epoch = max(1, milliseconds(self._started_at))
        self._sequence = 0
        self._newest: Mapping[str, float] = {}
        self._home = ""

    async def load(self) -> None:
        """Go on in the numbering of the process before, so that its ranges do not pile up."""
        self._home = await self._organisation()
        held = self._samples.acknowledged(agent_id_of(self._hub_id)).get(Lane.LIVE)
        if held is not None and held.ranges:
            self._epoch, self._sequence = held.epoch, held.ranges[-1][1]

    async def run(self) -> None:
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def sample(self) -> None:
        """Take the figures of now and have them stored; while the store is behind, they are let go."""
        self._newest = bounded(await asyncio.to_thread(self._read))
        self._sequence += 1
        sample = Sample(
            seq=self._sequence,
            ts=milliseconds(self._clock.now()),
            metric_type=METRIC_TYPE,
            metric_data=dict(self._newest),
        )
        frame = Metrics(epoch=self._epoch, lane=Lane.LIVE, samples=[sample])
        if not self._samples.receive(self._home, agent_id_of(self._hub_id), frame):
            log.debug("the hub's own figures were not taken: the store is behind")

    async def health(self, principal: Principal, _request: HubHealth) -> HubHealthReply:
        self._permitted(principal)
        if not self._newest:
            await self.sample()
        return HubHealthReply(hub_id=self._hub_id, started_at=self._started_at, figures=dict(self._newest))

    async def history(self, principal: Principal, request: HubMetrics) -> MetricsQueryReply:
        self._permitted(principal)
        query = MetricsQuery(
            agent_ids=[agent_id_of(self._hub_id)],
            metrics=request.metrics,
            from_=request.from_,
            to=request.to,
            metric_type=METRIC_TYPE,
            max_points=request.max_points,
        )
        return await self._samples.query(structs.replace(principal, organisation_id=self._home), query)

    def _permitted(self, principal: Principal) -> None:
        """Raises Forbidden."""
        organisation_id = authorize(principal, Permission.HUB_READ)
        if organisation_id != self._home and principal.role is not Role.HUB_ADMIN:
            raise Forbidden("the hub's own figures are for its administrators")
