"""Commands, frames and a hub's command side with valid defaults."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import insert, update
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.access.quotas import Quotas
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.commands.model import Command
from hub_server.commands.service import CommandService
from hub_server.commands.store import CommandStore
from hub_server.commands.tables import CommandRow
from hub_server.commands.worker import Dispatcher
from hub_server.errors import Forbidden
from hub_server.events import Deliver
from hub_server.fleet.store import FleetStore
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.actions import AnyData
from protocol.commands import CommandsCreate, CommandsGet, CommandsOutput, CommandsOutputReply, CommandView
from protocol.enumerations import CommandOutcome, CommandStatus, OutputStream, Role, TextEncoding
from protocol.frames import (
    CommandAccepted,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandResultAck,
    CommandStarted,
    Signature,
)
from tests.clocks import FakeClock

T = TypeVar("T")


def technician_of(organisation_id: str, role: Role = Role.TECHNICIAN) -> Principal:
    return Principal(user_id="u1", username="theo", organisation_id=organisation_id, role=role)


def command(**changes: Any) -> Command:
    fresh = Command(
        id="c1",
        organisation_id="o1",
        agent_id="a1",
        command_type="exec",
        command_data={"argv": ["id"]},
        payload=b"{}",
        signatures=[],
        status=CommandStatus.PENDING,
        created_at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
        created_by="user:theo",
        expires_at=datetime(2026, 11, 22, 12, 15, tzinfo=UTC),
    )
    return msgspec.structs.replace(fresh, **changes)


def accepted(command_id: str) -> CommandAccepted:
    return CommandAccepted(command_id=command_id, ts=1)


def started(command_id: str, ts: int = 1) -> CommandStarted:
    return CommandStarted(command_id=command_id, ts=ts)


def result(command_id: str, outcome: CommandOutcome = CommandOutcome.COMPLETED, **fields: Any) -> CommandResult:
    return CommandResult(command_id=command_id, status=outcome, **{"exit_code": 0, **fields})


def chunk(command_id: str, offset: int, data: str | bytes, stream: OutputStream = OutputStream.STDOUT) -> CommandOutput:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    encoding = TextEncoding.UTF8 if isinstance(data, str) else TextEncoding.BASE64
    return CommandOutput(command_id=command_id, stream=stream, offset=offset, data=text, encoding=encoding)


def bytes_in(reply: CommandsOutputReply) -> bytes:
    return reply.data.encode() if reply.encoding is TextEncoding.UTF8 else base64.b64decode(reply.data)


class FakeSigner:
    """Signs with what a test can recognise. `operator_keys`: key id → 32 bytes."""

    def __init__(self) -> None:
        self.operator_keys: dict[str, bytes] = {}

    async def sign_job(self, payload: bytes) -> Signature:
        return Signature(key_id="key-1", signature=base64.b64encode(payload[:8]).decode())

    def operator_key(self, key_id: str) -> bytes | None:
        return self.operator_keys.get(key_id)


class KnownAgents:
    def __init__(self) -> None:
        self.known: set[tuple[str, str]] = set()
        self.revoked: set[tuple[str, str]] = set()

    def exists(self, organisation_id: str, agent_id: str) -> bool:
        return (organisation_id, agent_id) in self.known

    def is_revoked(self, organisation_id: str, agent_id: str) -> bool:
        return (organisation_id, agent_id) in self.revoked


class FakePolicies:
    """Refuse every job as soon as `refusal` says why."""

    def __init__(self) -> None:
        self.refusal = ""
        self.asked: list[tuple[object, ...]] = []

    def check(self, organisation_id: str, agent_id: str, data: AnyData, *, reason: str, is_countersigned: bool) -> None:
        self.asked.append((organisation_id, agent_id, data, reason, is_countersigned))
        if self.refusal:
            raise Forbidden(self.refusal)


class Connections:
    def __init__(self) -> None:
        self.connected: set[str] = set()

    def is_connected(self, agent_id: str) -> bool:
        return agent_id in self.connected


class Hub:
    """The commands of one hub process; `restarted` is what a kill -9 leaves: the database."""

    def __init__(
        self, database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str, agents: KnownAgents
    ) -> None:
        self.database, self.bus, self.clock = database, bus, clock
        self.organisation_id = organisation_id
        self.agents = agents
        self.sessions = Connections()
        self.signer = FakeSigner()
        self.policies = FakePolicies()
        self.service = CommandService(
            database=database,
            bus=bus,
            clock=clock,
            store=CommandStore(),
            signer=self.signer,
            agents=agents,
            sessions=self.sessions,
            quotas=Quotas(agents=FleetStore().counts, open_commands=CommandStore().open_counts),
            policies=self.policies,
        )
        self.dispatcher = Dispatcher(bus=bus, ledger=self.service.ledger)
        self.principal = technician_of(organisation_id)

    async def restarted(self) -> Hub:
        hub = Hub(self.database, self.bus, self.clock, self.organisation_id, self.agents)
        await hub.service.load()
        return hub

    async def add_agent(self) -> str:
        agent_id = str(uuid.uuid4())
        async with self.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(
                insert(AgentRow).values(
                    id=agent_id,
                    organisation_id=self.organisation_id,
                    hostname="db-1",
                    name="db-1",
                    os_type="linux",
                    agent_version="0.1.0",
                    enrolled_at=self.clock.now(),
                )
            )
        self.agents.known.add((self.organisation_id, agent_id))
        return agent_id

    async def create(self, agent_id: str, **fields: Any) -> CommandView:
        request = CommandsCreate(agent_id=agent_id, **{"command_data": {"argv": ["uname", "-a"]}, **fields})
        return (await self.service.create(self.principal, request)).command

    async def get(self, command_id: str) -> CommandView:
        return (await self.service.get(self.principal, CommandsGet(command_id=command_id))).command

    async def output(self, command_id: str, offset: int = 0) -> CommandsOutputReply:
        request = CommandsOutput(command_id=command_id, stream=OutputStream.STDOUT, offset=offset)
        return await self.service.output(self.principal, request)

    async def send(self, command_id: str) -> None:
        """Dispatch one command to its agent, which is connected from now on."""
        opened = self.service.ledger.opened.get(command_id)
        assert opened is not None
        self.sessions.connected.add(opened.agent_id)
        await self.service.ledger.dispatch([opened])

    async def started(self, agent_id: str, frame: CommandStarted) -> None:
        self.service.started(self.organisation_id, agent_id, frame)
        await self.settle()

    async def chunk(self, agent_id: str, frame: CommandOutput) -> CommandOutputAck:
        """Return what acknowledges the chunk once it is stored."""
        with self._delivered() as delivered:
            await self.service.chunk(self.organisation_id, agent_id, frame)
            await self.settle()
            return await delivered(CommandOutputAck)

    async def result(self, agent_id: str, frame: CommandResult) -> CommandResultAck:
        with self._delivered() as delivered:
            self.service.result(self.organisation_id, agent_id, frame)
            await self.settle()
            return await delivered(CommandResultAck)

    async def settle(self) -> None:
        """Store what agents have said, as the recorder's own task does all the time."""
        await self.service.ledger.recorder.flush()

    @contextmanager
    def _delivered(self) -> Iterator[Callable[[type[T]], Awaitable[T]]]:
        with self.bus.subscribe(
            frozenset({"deliver"}), name="acknowledged", capacity=10_000, overflow=Overflow.DROP_OLDEST
        ) as subscription:

            async def last(kind: type[T]) -> T:
                events = await subscription.batch(10_000) if subscription.buffered else []
                found = [event.frame for event in events if isinstance(event, Deliver)]
                return [frame for frame in found if isinstance(frame, kind)][-1]

            yield last

    async def alter_payload(self, command_id: str, payload: bytes) -> None:
        """What an intruder in the database would do."""
        async with self.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(update(CommandRow).where(col(CommandRow.id) == command_id).values(payload=payload))
