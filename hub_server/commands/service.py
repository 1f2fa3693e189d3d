"""What can be asked of commands: by people, and by the sessions of agents."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

import msgspec
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.audit.record import record
from hub_server.bus.port import Bus
from hub_server.clock import Clock, from_milliseconds, milliseconds
from hub_server.commands.engine import CancelRequested, advance, page_of
from hub_server.commands.ledger import Ledger, Sessions
from hub_server.commands.model import Command, open_command_of
from hub_server.commands.store import CommandStore
from hub_server.errors import Conflict, InvalidRequest, NotFound
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.codec import BadFrame, check_value, split_path
from protocol.commands import (
    CommandReply,
    CommandsCancel,
    CommandsCreate,
    CommandsGet,
    CommandsList,
    CommandsListReply,
    CommandsOutput,
    CommandsOutputReply,
    CommandView,
)
from protocol.enumerations import CommandStatus, JobState, OutputStream
from protocol.envelope import ExecData, JobEnvelope
from protocol.frames import (
    CommandAccepted,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandResultAck,
    CommandStarted,
    CommandState,
    JobProgress,
    Signature,
)
from protocol.limits import COMMAND_TIMEOUT_SECONDS, FRAME_MAX_BYTES, OUTPUT_CHUNK_MAX_BYTES

log = structlog.get_logger(component="commands")

CommandIds = list[str]
EXPIRY_SECONDS: Final = 15 * 60
PAYLOAD_MAX_BYTES: Final = FRAME_MAX_BYTES


class Signer(Protocol):
    """Signs orders with the key that agents know from the trust document."""

    def sign_job(self, payload: bytes) -> Signature: ...


class Agents(Protocol):
    def exists(self, organisation_id: str, agent_id: str) -> bool: ...

    def is_revoked(self, organisation_id: str, agent_id: str) -> bool: ...


class Quotas(Protocol):
    async def check_open_commands(self, connection: AsyncConnection, organisation_id: str) -> None:
        """Raise QuotaReached when the organisation may not have one more command under way."""


class CommandService:
    """`ledger` is shared with the dispatcher."""

    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        store: CommandStore,
        signer: Signer,
        agents: Agents,
        sessions: Sessions,
        quotas: Quotas,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._signer = signer
        self._agents = agents
        self._quotas = quotas
        self._counts: dict[str, int] = {}
        self.ledger: Final = Ledger(database=database, bus=bus, clock=clock, store=store, sessions=sessions)

    async def load(self) -> None:
        """Read the open commands, and how many commands each agent ever got."""
        await self.ledger.load()
        async with self._database.read(EVERY_ORGANISATION) as connection:
            self._counts = await self._store.load_counts(connection)

    async def create(self, principal: Principal, request: CommandsCreate) -> CommandReply:
        """Order a machine to run a command. The same idempotency key gives the same command again."""
        organisation_id = authorize(principal, Permission.COMMANDS_RUN)
        data = exec_data_of(request)
        if not self._agents.exists(organisation_id, request.agent_id):
            raise _no_agent(request.agent_id)
        if self._agents.is_revoked(organisation_id, request.agent_id):
            raise Conflict("this agent was revoked and gets no commands any more", path="$.agentId")
        command = self.ledger.on_its_way(self._signed(principal, organisation_id, request, data))
        earlier = await self._store_once(principal, command, data)
        if earlier is not None:
            return await self._again(earlier, command)
        self._counts[command.agent_id] = self._counts.get(command.agent_id, 0) + 1
        log.info("command created", command_id=command.id, agent_id=command.agent_id, actor=principal.actor)
        self.ledger.created(command)
        return CommandReply(command=view_of(command, dict.fromkeys(OutputStream, 0)))

    async def list(self, principal: Principal, request: CommandsList) -> CommandsListReply:
        organisation_id = authorize(principal, Permission.COMMANDS_READ)
        async with self._database.read(organisation_id) as connection:
            commands, total = await self._store.page(connection, organisation_id, request)
            sizes = await self._store.output_sizes(connection, organisation_id, [command.id for command in commands])
        return CommandsListReply(
            commands=[view_of(command, sizes[command.id]) for command in commands],
            total=total,
            limit=request.limit,
            offset=request.offset,
        )

    async def get(self, principal: Principal, request: CommandsGet) -> CommandReply:
        organisation_id = authorize(principal, Permission.COMMANDS_READ)
        async with self._database.read(organisation_id) as connection:
            command = await self._store.find(connection, organisation_id, request.command_id)
        return await self._reply(_found(command, request.command_id))

    async def cancel(self, principal: Principal, request: CommandsCancel) -> CommandReply:
        """Cancel a command: at once while it waits, through its agent later. One that has ended stays as it is."""
        organisation_id = authorize(principal, Permission.COMMANDS_RUN)
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            found = await self._store.find(connection, organisation_id, request.command_id, to_change=True)
            before = _found(found, request.command_id)
            after = advance(before, CancelRequested(now))
            if after is not before:
                await self._store.save(connection, after)
                await record(
                    connection,
                    organisation_id=organisation_id,
                    at=now,
                    actor=principal.actor,
                    action="commands:cancel",
                    target=f"command:{after.id}",
                    detail={"agentId": after.agent_id},
                )
        self.ledger.changed(before, after)
        if not after.has_ended:
            self.ledger.deliver_cancel(open_command_of(after))
        return await self._reply(after)

    async def output(self, principal: Principal, request: CommandsOutput) -> CommandsOutputReply:
        """Return stored output from a byte offset on, 64 KiB at most."""
        organisation_id = authorize(principal, Permission.COMMANDS_READ)
        async with self._database.read(organisation_id) as connection:
            # The command first: when it has ended, all of its output is there.
            found = await self._store.find(connection, organisation_id, request.command_id)
            command = _found(found, request.command_id)
            data = await self._store.read_output(
                connection,
                organisation_id,
                command.id,
                request.stream,
                offset=request.offset,
                limit_bytes=OUTPUT_CHUNK_MAX_BYTES + 1,
            )
        is_end = command.has_ended and len(data) <= OUTPUT_CHUNK_MAX_BYTES
        data = data[:OUTPUT_CHUNK_MAX_BYTES]
        page = page_of(data, is_end=is_end)
        return CommandsOutputReply(
            command_id=command.id,
            stream=request.stream,
            offset=request.offset,
            data=page.data,
            encoding=page.encoding,
            next_offset=request.offset + page.bytes_shown,
            complete=is_end and page.bytes_shown == len(data),
        )

    def pending_total(self, organisation_id: str) -> int:
        """Return how many commands have not ended."""
        return self.ledger.opened.total(organisation_id)

    def counts(self, agent_ids: Iterable[str]) -> Mapping[str, int]:
        """Return how many commands each of these agents ever got."""
        return {agent_id: self._counts.get(agent_id, 0) for agent_id in agent_ids}

    def forget(self, agent_id: str) -> None:
        self._counts.pop(agent_id, None)
        self.ledger.forget(agent_id)

    async def accepted(self, organisation_id: str, agent_id: str, frame: CommandAccepted) -> None:
        await self.ledger.accepted(organisation_id, agent_id, frame.command_id)

    async def started(self, organisation_id: str, agent_id: str, frame: CommandStarted) -> None:
        await self.ledger.started(organisation_id, agent_id, frame.command_id, self.ledger.moment(frame.ts))

    async def chunk(self, organisation_id: str, agent_id: str, frame: CommandOutput) -> CommandOutputAck:
        """Raises BadFrame for data that are not base64 though they say so."""
        return await self.ledger.chunk(organisation_id, agent_id, frame)

    async def result(self, organisation_id: str, agent_id: str, frame: CommandResult) -> CommandResultAck:
        """Store the first end of a command; every later one is acknowledged and changes nothing."""
        await self.ledger.finished(organisation_id, agent_id, frame)
        return CommandResultAck(command_id=frame.command_id)

    async def state(self, organisation_id: str, agent_id: str, frame: CommandState) -> None:
        match frame.state:
            case JobState.ACCEPTED | JobState.FINISHED:
                await self.ledger.accepted(organisation_id, agent_id, frame.command_id)
            case JobState.STARTED:
                await self.ledger.started(organisation_id, agent_id, frame.command_id, self._clock.now())
            case JobState.UNKNOWN:
                await self.ledger.unknown(organisation_id, agent_id, frame.command_id)

    async def reconcile(self, organisation_id: str, agent_id: str, jobs: Sequence[JobProgress]) -> CommandIds:
        """Bring the open commands in line with an agent's journal; return the ids for `welcome.jobs`."""
        return await self.ledger.reconcile(organisation_id, agent_id, jobs)

    def _signed(self, principal: Principal, organisation_id: str, request: CommandsCreate, data: ExecData) -> Command:
        issued_at_ms = milliseconds(self._clock.now())
        created_at = from_milliseconds(issued_at_ms)
        expires_at = created_at + timedelta(seconds=EXPIRY_SECONDS)
        command_id = str(uuid.uuid4())
        envelope = JobEnvelope(
            job_id=command_id,
            organisation_id=organisation_id,
            agent_id=request.agent_id,
            action="exec",
            argv=data.argv,
            issued_at=issued_at_ms,
            expires_at=milliseconds(expires_at),
            timeout_sec=COMMAND_TIMEOUT_SECONDS if request.timeout_sec is None else request.timeout_sec,
            environment=data.environment,
            working_directory=data.working_directory,
        )
        payload = _encoded(envelope)
        return Command(
            id=command_id,
            organisation_id=organisation_id,
            agent_id=request.agent_id,
            command_type=request.command_type,
            command_data=request.command_data,
            payload=payload,
            signatures=[self._signer.sign_job(payload)],
            status=CommandStatus.PENDING,
            created_at=created_at,
            created_by=principal.actor,
            expires_at=expires_at,
            idempotency_key=request.idempotency_key,
        )

    async def _store_once(self, principal: Principal, command: Command, data: ExecData) -> Command | None:
        """Store `command` with its audit row, unless there is an earlier one of its key: then return that."""
        key = command.idempotency_key or ""
        try:
            async with self._database.write(command.organisation_id) as connection:
                if key:
                    earlier = await self._store.find_by_key(connection, command.organisation_id, key)
                    if earlier is not None:
                        return earlier
                await self._quotas.check_open_commands(connection, command.organisation_id)
                if not await self._store.add(connection, command):
                    return await self._store.find_by_key(connection, command.organisation_id, key)
                await record(
                    connection,
                    organisation_id=command.organisation_id,
                    at=command.created_at,
                    actor=principal.actor,
                    action="commands:create",
                    target=f"command:{command.id}",
                    detail={"agentId": command.agent_id, "commandType": command.command_type, "argv": data.argv},
                )
        except IntegrityError as error:
            raise _no_agent(command.agent_id) from error  # it was deleted a moment ago
        return None

    async def _again(self, earlier: Command, asked: Command) -> CommandReply:
        if _order_of(earlier) != _order_of(asked):
            raise Conflict(
                "this idempotency key belongs to another command; use a new key for a new command",
                path="$.idempotencyKey",
            )
        return await self._reply(earlier)

    async def _reply(self, command: Command) -> CommandReply:
        async with self._database.read(command.organisation_id) as connection:
            sizes = await self._store.output_sizes(connection, command.organisation_id, [command.id])
        return CommandReply(command=view_of(command, sizes[command.id]))


def exec_data_of(request: CommandsCreate) -> ExecData:
    """Return the order in `commandData`. Raises InvalidRequest with the path of the field at fault."""
    try:
        check_value(request.command_data)
        data = msgspec.convert(request.command_data, ExecData)
    except BadFrame as error:
        raise InvalidRequest(str(error), path="$.commandData") from error
    except msgspec.ValidationError as error:
        message, path = split_path(str(error))
        raise InvalidRequest(message, path=f"$.commandData{path[1:]}") from error
    if not data.argv[0]:
        raise InvalidRequest("the program to run is missing", path="$.commandData.argv[0]")
    for name in data.environment:
        if not name or "=" in name:
            raise InvalidRequest(f"{name!r} cannot name a variable", path="$.commandData.environment")
    return data


def view_of(command: Command, output_bytes: Mapping[OutputStream, int]) -> CommandView:
    return CommandView(
        id=command.id,
        agent_id=command.agent_id,
        command_type=command.command_type,
        command_data=command.command_data,
        status=command.status,
        reason=command.reason,
        exit_code=command.exit_code,
        result=command.result,
        created_at=command.created_at,
        created_by=command.created_by,
        started_at=command.started_at,
        finished_at=command.finished_at,
        expires_at=command.expires_at,
        output_bytes=dict(output_bytes),
        truncated=command.truncated,
    )


def _encoded(envelope: JobEnvelope) -> bytes:
    try:
        payload = msgspec.json.encode(envelope)
    except UnicodeEncodeError as error:
        raise InvalidRequest("the command holds text that is no Unicode", path="$.commandData") from error
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise InvalidRequest(
            f"the command is too large: {len(payload)} bytes; at most {PAYLOAD_MAX_BYTES}", path="$.commandData"
        )
    return payload


def _order_of(command: Command) -> tuple[object, ...]:
    """Return what makes two orders the same, whenever they were given."""
    envelope = msgspec.json.decode(command.payload, type=JobEnvelope)
    return (
        envelope.agent_id, envelope.action, envelope.argv, envelope.environment, envelope.working_directory,
        envelope.timeout_sec,
    )  # fmt: skip


def _no_agent(agent_id: str) -> NotFound:
    return NotFound(f"there is no agent {agent_id!r} in your organisation", path="$.agentId")


def _found(command: Command | None, command_id: str) -> Command:
    if command is None:
        raise NotFound(f"there is no command {command_id!r} in your organisation", path="$.commandId")
    return command
