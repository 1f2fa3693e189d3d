"""Dashboards' server, feed and announcer on real sockets; the fleet, its samples and who may come in are the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, cast

from aiohttp import web

from hub_server.access.model import Principal
from hub_server.access.standings import Session, Standing, Standings
from hub_server.bus.in_process import InProcessBus
from hub_server.clock import Clock, SystemClock
from hub_server.events import AgentChanged, AgentDeleted, AgentEnrolled, DomainEvent, MetricsReceived
from hub_server.fleet.model import Agent
from hub_server.gateway.dashboards.announcer import Announcer
from hub_server.gateway.dashboards.first_agents import FirstAgents
from hub_server.gateway.dashboards.line import Bounds, Line
from hub_server.gateway.dashboards.lines import Lines
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.operations import Operations
from hub_server.gateway.dashboards.pace import Pace
from hub_server.gateway.dashboards.server import DashboardServer
from hub_server.gateway.dashboards.sockets import Sockets
from hub_server.gateway.dashboards.tables.fleet import FleetOperations
from hub_server.gateway.rest.origins import Origins
from hub_server.telemetry.model import NewestSample
from protocol.desired import AgentConfig
from protocol.enumerations import AgentStatus, Lane, Role
from protocol.events import AgentSummary, FleetCounts
from protocol.frames import MetricValue, Sample
from protocol.operations import Thresholds
from protocol.requests import AgentFilter

ORGANISATION: Final = "org"
AT: Final = datetime(2026, 11, 22, tzinfo=UTC)
FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
NEVER_SECONDS: Final = 1_000_000.0


def agent(agent_id: str, *, name: str = "", tags: tuple[str, ...] = (), organisation_id: str = ORGANISATION) -> Agent:
    return Agent(
        id=agent_id,
        organisation_id=organisation_id,
        hostname=agent_id,
        name=name or agent_id,
        site="",
        tags=list(tags),
        os_type="linux",
        os_version="6",
        arch="x86_64",
        cpu_count=2,
        memory_total_bytes=1,
        ip_addresses=[],
        agent_version="1",
        boot_id="b",
        config=AgentConfig(),
        thresholds=Thresholds(),
        applied_config_hash="",
        enrolled_at=AT,
    )


class Fleet:
    """The fleet, what its machines have said last, and lists of it. `selections`: how often a list was made."""

    def __init__(self, bus: InProcessBus) -> None:
        self._bus = bus
        self._agents: dict[str, dict[str, Agent]] = {}
        self._newest: dict[str, dict[str, NewestSample]] = {}
        self._seq = 0
        self.selections = 0
        self.received: list[DomainEvent] = []
        self.changes: list[DomainEvent] = []

    def add(self, *agents: Agent) -> None:
        for new in agents:
            self._agents.setdefault(new.organisation_id, {})[new.id] = new
            self._changed(AgentEnrolled(organisation_id=new.organisation_id, agent_id=new.id, hostname=new.hostname))

    def change(self, changed: Agent) -> None:
        self._agents[changed.organisation_id][changed.id] = changed
        self._changed(AgentChanged(organisation_id=changed.organisation_id, agent_id=changed.id))

    def remove(self, agent_id: str, organisation_id: str = ORGANISATION) -> None:
        del self._agents[organisation_id][agent_id]
        self._changed(AgentDeleted(organisation_id=organisation_id, agent_id=agent_id, hostname=agent_id))

    def say(
        self,
        agent_id: str,
        data: Mapping[str, MetricValue],
        *,
        metric_type: str = "system",
        lane: Lane = Lane.LIVE,
        ts_ms: int = 1,
        organisation_id: str = ORGANISATION,
    ) -> None:
        """An agent's frame with one sample comes in."""
        self._seq += 1
        if lane is Lane.LIVE:
            self._newest.setdefault(agent_id, {})[metric_type] = NewestSample(ts_ms, dict(data))
        event = MetricsReceived(
            organisation_id=organisation_id,
            agent_id=agent_id,
            lane=lane,
            epoch=1,
            samples=[Sample(seq=self._seq, ts=ts_ms, metric_type=metric_type, metric_data=dict(data))],
            received_monotonic=0.0,
        )
        self.received.append(event)
        self._bus.publish(event)

    def agents(self, organisation_id: str) -> Mapping[str, Agent]:
        return self._agents.get(organisation_id, {})

    def exists(self, organisation_id: str, agent_id: str) -> bool:
        return agent_id in self.agents(organisation_id)

    async def find(self, organisation_id: str, agent_id: str) -> Agent | None:
        return self.agents(organisation_id).get(agent_id)

    def newest(self, agent_id: str) -> Mapping[str, NewestSample]:
        return self._newest.get(agent_id, {})

    def window(
        self, organisation_id: str, wanted: AgentFilter, sort: str, offset: int, limit: int
    ) -> tuple[list[Agent], int]:
        """By text in the name and by tags; sorted by name, or by `cpu_percent`."""
        self.selections += 1
        passing = [
            one
            for one in self.agents(organisation_id).values()
            if wanted.text in one.name and set(wanted.tags) <= set(one.tags)
        ]
        passing.sort(key=lambda one: (self.cpu(one.id) if sort == "cpu" else 0.0, one.name))
        return passing[offset : offset + limit], len(passing)

    def cpu(self, agent_id: str) -> float:
        sample = self.newest(agent_id).get("system")
        return 0.0 if sample is None else float(cast("float", sample.data["cpu_percent"]))

    def summary(self, one: Agent) -> AgentSummary:
        return AgentSummary(
            id=one.id,
            hostname=one.hostname,
            name=one.name,
            status=AgentStatus.ACTIVE,
            status_reason="",
            os_type="linux",
            os_version="6",
            arch="x86_64",
            agent_version="1",
            ip_addresses=[],
            site="",
            tags=one.tags,
            last_seen=AT,
            enrolled_at=AT,
            metrics={},
        )

    def counts(self, organisation_id: str) -> FleetCounts:
        return FleetCounts(active=len(self.agents(organisation_id)))

    def _changed(self, event: DomainEvent) -> None:
        self.changes.append(event)
        self._bus.publish(event)


class Access:
    """Lets everybody in, as an operator."""

    def __init__(self) -> None:
        self.standings = Standings()
        self.open: list[Standing] = []

    async def admit(self, _token: str, _address: str) -> Session:
        self.open.append(self.standings.open("u", ORGANISATION, "s"))
        return Session(
            principal=Principal(user_id="u", username="ada", organisation_id=ORGANISATION, role=Role.OPERATOR),
            session_id="s",
            expires_at=FAR,
            standing=self.open[-1],
        )

    async def note_ended(self, sessions: list[Session]) -> None: ...


class Stage:
    """The operations are those of the feed. `clock` is the feed's."""

    def __init__(self, bounds: Bounds | None = None, *, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.access = Access()
        self.bus = InProcessBus()
        self.fleet = Fleet(self.bus)
        self.lines = Lines()
        fleet = cast("Any", self.fleet)
        first = FirstAgents(fleet)
        self.feed = LiveFeed(
            bus=self.bus, clock=clock, lines=self.lines, fleet=fleet, view=fleet, first=first, telemetry=fleet
        )
        self.announcer = Announcer(
            bus=self.bus, lines=self.lines, fleet=fleet, view=fleet, first=first, tick_seconds=NEVER_SECONDS
        )
        asked = FleetOperations(
            fleet=fleet, desk=cast("Any", None), view=fleet, feed=self.feed, certificates=cast("Any", None)
        ).table
        feed_only = {name: entry for name, entry in asked.items() if name.startswith("feed:")}
        self.sockets = Sockets(Origins(frozenset()), self.lines.traffic, bounds or Bounds())
        self.server = DashboardServer(
            sockets=self.sockets,
            lines=self.lines,
            clock=clock,
            access=cast("Any", self.access),
            operations=Operations((feed_only,)),
            announcer=self.announcer,
            feed=self.feed,
            pace=Pace(clock, per_second=1000, at_once=1000),
        )
        self.port = 0

    def tick(self) -> None:
        """The feed's, with what has come in since the last one."""
        received, self.fleet.received = self.fleet.received, []
        changes, self.fleet.changes = self.fleet.changes, []
        self.feed.tick(received, changes)

    def line(self) -> Line:
        """The only client's."""
        (line,) = self.lines.open_lines.values()
        return line

    @asynccontextmanager
    async def running(self, *parts: Callable[[], Awaitable[None]]) -> AsyncIterator[Stage]:
        """Serve, and run these parts meanwhile."""
        application = web.Application()
        self.server.attach(application)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_until_cancelled(part)) for part in parts]
            try:
                yield self
            finally:
                for task in running:
                    task.cancel()
                await self.server.shut_down()
                await runner.cleanup()

    @asynccontextmanager
    async def announcing(self) -> AsyncIterator[None]:
        """Run the announcer; its ticks are the test's."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.announcer.run())
            while not self.bus.subscriptions():  # noqa: ASYNC110  nobody says so
                await asyncio.sleep(0)
            try:
                yield
            finally:
                running.cancel()

    async def settled(self) -> None:
        """Return once the announcer has heard all that was published."""
        (heard,) = [subscription for subscription in self.bus.subscriptions() if subscription.name == "announcer"]
        while heard.buffered:  # noqa: ASYNC110  nobody says so
            await asyncio.sleep(0)


async def _until_cancelled(part: Callable[[], Awaitable[None]]) -> None:
    await part()
