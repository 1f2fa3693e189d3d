"""The hub in the simulation: its real service, ledger, store, dispatcher, courier and handler, put together as it does.

What changes in how the hub is put together is followed up here and in stage.py, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.commands.service import CommandService
from hub_server.commands.store import CommandStore
from hub_server.commands.worker import Dispatcher
from hub_server.events import AgentConnected
from hub_server.gateway.agents.courier import Courier
from hub_server.gateway.agents.handler import AgentFrameHandler
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.agents.session import AgentSession
from hub_server.storage.engine import Database
from protocol.actions import AnyData
from protocol.codec import decode_agent_frame
from protocol.elements import Frame
from protocol.enumerations import Role
from protocol.frames import Hello, Welcome
from protocol.identity import AgentIdentity
from tests.simulation.hub_database import HubDatabase
from tests.simulation.life import Life
from tests.simulation.network import Link, LinkBroken, Network
from tests.simulation.stage import BEGINNING, DOMAIN, ORGANISATION, SimulatedSigner, SkewedClock

T = TypeVar("T")

PRINCIPAL: Final = Principal(user_id="u1", username="theo", organisation_id=ORGANISATION, role=Role.TECHNICIAN)
HELLO_SECONDS: Final = 5.0
SUPERSEDED_SECONDS: Final = 5.0
CALLS_MAX: Final = 1000
SILENT: Final = logging.CRITICAL

logging.getLogger("agent").setLevel(SILENT + 1)

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(SILENT))

HubSays = Callable[[Frame], None]
"""Looks at each frame of the hub before it leaves."""


class _AllKnown:
    def exists(self, organisation_id: str, agent_id: str) -> bool:  # noqa: ARG002  a port
        return True

    def is_revoked(self, organisation_id: str, agent_id: str) -> bool:  # noqa: ARG002  a port
        return False


class _NoPolicies:
    def check(self, organisation_id: str, agent_id: str, data: AnyData, *, reason: str, is_countersigned: bool) -> None:
        pass


class _NoQuotas:
    def check_open_commands(self, connection: Connection, organisation_id: str) -> None:
        pass


class HubSession:
    """What courier and handler need of a session."""

    has_spoken = True
    leaving = None

    def __init__(self, life: Life, link: Link, says: HubSays) -> None:
        self.identity = AgentIdentity(DOMAIN, ORGANISATION, link.agent_id)
        self.is_ending = False
        self._life = life
        self._link = link
        self._says = says

    def send(self, frame: Frame) -> None:
        self._life.check()
        if not self.is_ending:
            self._says(frame)
            self._link.to_agent.send(frame, surely=isinstance(frame, Welcome))

    def end(self, _ending: object = None) -> None:
        self.is_ending = True
        self._link.close()


class HubProcess:
    """One life of the hub. `is_up` once it serves."""

    def __init__(
        self, life: Life, database: HubDatabase, signer: SimulatedSigner, network: Network, says: HubSays
    ) -> None:
        self.life = life
        self.database = database
        self.is_up = asyncio.Event()
        self._network = network
        self._says = says
        clock = SkewedClock()
        self._bus = InProcessBus()
        self._registry = SessionRegistry()
        self.service = CommandService(
            database=cast("Database", database),
            bus=self._bus,
            clock=clock,
            store=CommandStore(),
            signer=signer,
            agents=_AllKnown(),
            sessions=self._registry,
            quotas=_NoQuotas(),
            policies=_NoPolicies(),
        )
        self._dispatcher = Dispatcher(bus=self._bus, ledger=self.service.ledger)
        self._courier = Courier(self._bus, self._registry)
        nobody: Any = SimpleNamespace(heard=lambda _agent_id: None)
        self._handler = AgentFrameHandler(
            clock=clock,
            fleet=nobody,
            presence=nobody,
            telemetry=nobody,
            reports=nobody,
            skew=nobody,
            commands=self.service,
            certificates=nobody,
            inventory=nobody,
        )
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        await self.service.load()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._dispatcher.run(), name="dispatcher")
            tasks.create_task(self._courier.run(), name="courier")
            calls = self._network.calls = asyncio.Queue(CALLS_MAX)
            self.is_up.set()
            while True:
                tasks.create_task(self._serve(await calls.get()), name="session")

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
        """Let the hub do something for a person; it ends with the hub. None when that is ending already."""
        assert self._tasks is not None
        try:
            return self._tasks.create_task(work, name="operation")
        except RuntimeError:
            work.close()
            return None

    async def _serve(self, link: Link) -> None:
        """As the agents' endpoint: hello, reconciliation, welcome, then frame by frame."""
        session = HubSession(self.life, link, self._says)
        seen = cast("AgentSession", session)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = decode_agent_frame(await link.to_hub.receive())
            assert isinstance(hello, Hello)
            open_jobs = await self.service.reconcile(ORGANISATION, link.agent_id, hello.jobs)
            session.send(_welcome(open_jobs))
            older = self._registry.enter(seen)
            if older is not None:
                asyncio.get_running_loop().call_later(SUPERSEDED_SECONDS, cast("HubSession", older).end)
            self._bus.publish(_connected(link.agent_id))
            while True:
                frame = decode_agent_frame(await link.to_hub.receive())
                for answer in await self._handler.handle(seen, frame):
                    session.send(answer)
        except (LinkBroken, TimeoutError, SQLAlchemyError):
            session.end()
        finally:
            self._registry.leave(seen)


def _welcome(open_jobs: list[str]) -> Welcome:
    return Welcome(
        protocol=1,
        session_id="s",
        server_time_ms=0,
        next_heartbeat_sec=30,
        sample_interval_sec=10,
        credits={},
        jobs=open_jobs,
    )


def _connected(agent_id: str) -> AgentConnected:
    return AgentConnected(organisation_id=ORGANISATION, agent_id=agent_id, hostname=agent_id, at=BEGINNING)
