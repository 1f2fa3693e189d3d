"""What can be asked of commands: by people, and by the sessions of agents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.audit.record import record_within
from hub_server.bus.port import Bus
from hub_server.clock import Clock, from_milliseconds, milliseconds
from hub_server.commands.countersigned import asked_order, countersigned, own_order
from hub_server.commands.engine import CancelRequested, advance, page_of, with_waiting
from hub_server.commands.ledger import Ledger, Sessions
from hub_server.commands.model import Command, open_command_of
from hub_server.commands.orders import checked_data_of, encoded
from hub_server.commands.recorder import changed_within
from hub_server.commands.store import CommandStore
from hub_server.commands.views import kept_data_of, listed_view_of, says_the_same, shortened, view_of, whole_data_of
from hub_server.errors import Conflict, HubError, NotFound, QuotaReached
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.actions import AnyData, Order, ScriptData, order_of, script_bytes
from protocol.commands import (
    CommandReply,
    CommandsCancel,
    CommandsCreate,
    CommandsGet,
    CommandsList,
    CommandsListReply,
    CommandsOutput,
    CommandsOutputReply,
)
from protocol.enumerations import CommandStatus, JobState, OutputStream
from protocol.envelope import JobEnvelope
from protocol.frames import (
    CommandAccepted,
    CommandOutput,
    CommandResult,
    CommandStarted,
    CommandState,
    JobProgress,
    Signature,
)
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES

log = structlog.get_logger(component="commands")

CommandIds = list[str]
PageOfCommands = list[Command]
OPEN_OF_AN_AGENT_MAX: Final = 2000


class Signer(Protocol):
    """Signs orders with the key that agents know from the trust document, and knows people's keys in there."""

    async def sign_job(self, payload: bytes) -> Signature: ...

    def operator_key(self, key_id: str) -> bytes | None: ...


class Agents(Protocol):
    def exists(self, organisation_id: str, agent_id: str) -> bool: ...

    def is_revoked(self, organisation_id: str, agent_id: str) -> bool: ...


class Quotas(Protocol):
    def check_open_commands(self, connection: Connection, organisation_id: str) -> None:
        """Raise QuotaReached when the organisation may not have one more command under way."""


class Policies(Protocol):
    """What the organisation lets people ask of its machines."""

    def check(self, organisation_id: str, agent_id: str, data: AnyData, *, reason: str, is_countersigned: bool) -> None:
        """Raise Forbidden, naming the policy and its rule, when the machine may not be asked to do this."""


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
        policies: Policies,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._signer = signer
        self._agents = agents
        self._quotas = quotas
        self._policies = policies
        self._counts: dict[str, int] = {}
        self.ledger: Final = Ledger(database=database, bus=bus, clock=clock, store=store, sessions=sessions)

    async def load(self) -> None:
        """Read the open commands, and how many commands of each agent are kept."""
        await self.ledger.load()
        async with self._database.read(EVERY_ORGANISATION) as connection:
            self._counts = await connection.run_sync(self._store.load_counts)

    async def create(self, principal: Principal, request: CommandsCreate) -> CommandReply:
        """Order a machine to run a command. The same idempotency key gives the same command again, also when it would
        not be given any more.
        """
        organisation_id = authorize(principal, Permission.COMMANDS_RUN)
        data = checked_data_of(request)
        now_ms = milliseconds(self._clock.now())
        own = own_order(request, data, organisation_id=organisation_id, requested_by=principal.actor, now_ms=now_ms)
        try:
            self._check(organisation_id, request, data)
            command = self.ledger.on_its_way(await self._signed(principal, request, data, own))
        except HubError:
            earlier = await self._earlier(request, own)
            if earlier is None:
                raise
            return await self._reply(earlier)
        earlier = await self._store_once(principal, command, order_of(data), request.reason)
        if earlier is not None:
            return await self._again(earlier, asked_order(request, own))
        self._counts[command.agent_id] = self._counts.get(command.agent_id, 0) + 1
        self.ledger.created(command)
        await asyncio.sleep(0)  # the order goes out before the answer is made
        log.info("command created", command_id=command.id, agent_id=command.agent_id, actor=principal.actor)
        return CommandReply(command=view_of(command, dict.fromkeys(OutputStream, 0)))

    async def list(self, principal: Principal, request: CommandsList) -> CommandsListReply:
        organisation_id = authorize(principal, Permission.COMMANDS_READ)
        async with self._database.read(organisation_id) as connection:
            commands, cut, total = await connection.run_sync(self._page, organisation_id, request)
            ids = [command.id for command in commands]
            sizes = await connection.run_sync(self._store.output_sizes, organisation_id, ids)
        kept = {command_id: self.ledger.streams.kept_bytes(command_id, sizes[command_id]) for command_id in ids}
        return CommandsListReply(
            commands=[
                listed_view_of(self.ledger.as_known(command), kept[command.id], is_cut=command.id in cut)
                for command in commands
            ],
            total=total,
            limit=request.limit,
            offset=request.offset,
        )

    async def get(self, principal: Principal, request: CommandsGet) -> CommandReply:
        organisation_id = authorize(principal, Permission.COMMANDS_READ)
        async with self._database.read(organisation_id) as connection:
            found = await connection.run_sync(self._store.find, organisation_id, request.command_id)
            command = _found(found, request.command_id)
            script = None
            if command.script_sha256 is not None:
                script = await connection.run_sync(self._store.script, organisation_id, command.script_sha256)
        if script is not None:
            command = msgspec.structs.replace(command, command_data=whole_data_of(command.command_data, script))
        return await self._reply(command)

    async def cancel(self, principal: Principal, request: CommandsCancel) -> CommandReply:
        """Cancel a command: at once while it waits, through its agent later. One that has ended stays as it is."""
        organisation_id = authorize(principal, Permission.COMMANDS_RUN)
        await self.ledger.recorder.settle(request.command_id)
        work = partial(self._cancel_within, principal, organisation_id, request.command_id, self._clock.now())
        before, after = await self._database.transact(organisation_id, work)
        self.ledger.changed(before, after)
        if not after.has_ended:
            self.ledger.deliver_cancel(open_command_of(after))
        return await self._reply(after)

    async def output(self, principal: Principal, request: CommandsOutput) -> CommandsOutputReply:
        """Return output from a byte offset on, 64 KiB at most: what is stored, and what is about to be."""
        organisation_id = authorize(principal, Permission.COMMANDS_READ)
        waiting = self.ledger.streams.waiting(request.command_id, request.stream)  # before the store is asked: no hole
        async with self._database.read(organisation_id) as connection:
            # The command first: when it has ended, all of its output is there.
            found = await connection.run_sync(self._store.find, organisation_id, request.command_id)
            command = _found(found, request.command_id)
            read = partial(
                self._store.read_output,
                organisation_id=organisation_id,
                command_id=command.id,
                stream=request.stream,
                offset=request.offset,
                limit_bytes=OUTPUT_CHUNK_MAX_BYTES + 1,
            )
            data = await connection.run_sync(read)
        data = with_waiting(data, request.offset, waiting, OUTPUT_CHUNK_MAX_BYTES + 1)
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
        """Return how many commands each of these agents got, without those that were deleted before the hub's start."""
        return {agent_id: self._counts.get(agent_id, 0) for agent_id in agent_ids}

    def forget(self, agent_id: str) -> None:
        self._counts.pop(agent_id, None)
        self.ledger.forget(agent_id)

    async def accepted(self, organisation_id: str, agent_id: str, frame: CommandAccepted) -> None:
        await self.ledger.accepted(organisation_id, agent_id, frame.command_id)

    def started(self, organisation_id: str, agent_id: str, frame: CommandStarted) -> None:
        self.ledger.started(organisation_id, agent_id, frame.command_id, self.ledger.moment(frame.ts))

    async def chunk(self, organisation_id: str, agent_id: str, frame: CommandOutput) -> None:
        """Show what is new and store it; the acknowledgement follows. Raises BadFrame for data that are not base64."""
        await self.ledger.streams.chunk(organisation_id, agent_id, frame)

    def result(self, organisation_id: str, agent_id: str, frame: CommandResult) -> None:
        """Store the first end of a command; every one is acknowledged then, and changes nothing if it came later."""
        self.ledger.finished(organisation_id, agent_id, frame)

    async def state(self, organisation_id: str, agent_id: str, frame: CommandState) -> None:
        match frame.state:
            case JobState.ACCEPTED | JobState.FINISHED:
                await self.ledger.accepted(organisation_id, agent_id, frame.command_id)
            case JobState.STARTED:
                self.ledger.started(organisation_id, agent_id, frame.command_id, self._clock.now())
            case JobState.UNKNOWN:
                await self.ledger.unknown(organisation_id, agent_id, frame.command_id)

    async def reconcile(self, organisation_id: str, agent_id: str, jobs: Sequence[JobProgress]) -> CommandIds:
        """Bring the open commands in line with an agent's journal; return the ids for `welcome.jobs`."""
        return await self.ledger.reconcile(organisation_id, agent_id, jobs)

    def _check(self, organisation_id: str, request: CommandsCreate, data: AnyData) -> None:
        """Raises NotFound, Conflict, QuotaReached or Forbidden when the machine may not be asked to do this now."""
        if not self._agents.exists(organisation_id, request.agent_id):
            raise _no_agent(request.agent_id)
        if self._agents.is_revoked(organisation_id, request.agent_id):
            raise Conflict("this agent was revoked and gets no commands any more", path="$.agentId")
        if self.ledger.opened.count_of_agent(request.agent_id) >= OPEN_OF_AN_AGENT_MAX:
            raise QuotaReached(f"{OPEN_OF_AN_AGENT_MAX} commands wait for this machine already; cancel some, or wait")
        is_countersigned = request.signature is not None
        self._policies.check(
            organisation_id, request.agent_id, data, reason=request.reason, is_countersigned=is_countersigned
        )

    async def _earlier(self, request: CommandsCreate, own: JobEnvelope) -> Command | None:
        """Return the command that was given with this key, where it was the same: its answer may have been lost."""
        if request.idempotency_key is None:
            return None
        async with self._database.read(own.organisation_id) as connection:
            found = await connection.run_sync(self._store.find_by_key, own.organisation_id, request.idempotency_key)
        return found if found is not None and says_the_same(found, asked_order(request, own)) else None

    async def _signed(self, principal: Principal, request: CommandsCreate, data: AnyData, own: JobEnvelope) -> Command:
        given = countersigned(request, own, self._signer.operator_key)
        envelope, payload = (own, encoded(own)) if given is None else (given.envelope, given.payload)
        beside = [] if given is None else [given.signature]
        return Command(
            id=envelope.job_id,
            organisation_id=own.organisation_id,
            agent_id=request.agent_id,
            command_type=request.command_type,
            command_data=kept_data_of(request.command_data, data),
            payload=payload,
            signatures=[await self._signer.sign_job(payload), *beside],
            status=CommandStatus.PENDING,
            created_at=from_milliseconds(own.issued_at),
            created_by=principal.actor,
            expires_at=from_milliseconds(envelope.expires_at),
            idempotency_key=request.idempotency_key,
            script_sha256=envelope.script_sha256,
            script=script_bytes(data) if isinstance(data, ScriptData) else b"",
            timeout_sec=envelope.timeout_sec,
            purpose=request.reason,
        )

    async def _store_once(self, principal: Principal, command: Command, order: Order, why: str) -> Command | None:
        """Store `command` with its audit row, unless there is an earlier one of its key: then return that."""
        work = partial(self._store_within, principal, command, order, why)
        try:
            return await self._database.transact(command.organisation_id, work)
        except IntegrityError as error:
            raise _not_stored(command) from error

    def _store_within(
        self, principal: Principal, command: Command, order: Order, why: str, connection: Connection
    ) -> Command | None:
        key = command.idempotency_key or ""
        if key:
            earlier = self._store.find_by_key(connection, command.organisation_id, key)
            if earlier is not None:
                return earlier
        self._quotas.check_open_commands(connection, command.organisation_id)
        if not self._store.add(connection, command):
            return self._store.find_by_key(connection, command.organisation_id, key)
        script = {} if command.script_sha256 is None else {"scriptSha256": command.script_sha256}
        reason = {"reason": why} if why else {}
        record_within(
            connection,
            organisation_id=command.organisation_id,
            at=command.created_at,
            actor=principal.actor,
            action="commands:create",
            target=f"command:{command.id}",
            detail={"agentId": command.agent_id, "commandType": command.command_type, "argv": order.argv}
            | script
            | reason,
        )
        return None

    def _cancel_within(
        self, principal: Principal, organisation_id: str, command_id: str, now: datetime, connection: Connection
    ) -> tuple[Command, Command]:
        found = _found(self._store.find(connection, organisation_id, command_id), command_id)

        def change(before: Command) -> tuple[tuple[Command, Command], Command]:
            after = advance(before, CancelRequested(now))
            return (before, after), after

        before, after = changed_within(connection, self._store, found, change, now)
        if after is not before:
            record_within(
                connection,
                organisation_id=organisation_id,
                at=now,
                actor=principal.actor,
                action="commands:cancel",
                target=f"command:{after.id}",
                detail={"agentId": after.agent_id},
            )
        return before, after

    def _page(
        self, connection: Connection, organisation_id: str, request: CommandsList
    ) -> tuple[PageOfCommands, set[str], int]:
        """Return a page, which of it has shortened data, and how many commands there are in all."""
        if request.after is not None:
            _found(self._store.find(connection, organisation_id, request.after), request.after, "$.after")
        commands, total = self._store.page(connection, organisation_id, request)
        cut: set[str] = set()
        for place, command in enumerate(commands):
            if not command.command_data:
                data = self._store.command_data(connection, organisation_id, command.id)
                commands[place] = msgspec.structs.replace(command, command_data=shortened(data))
                cut.update([command.id] if data else [])
        return commands, cut, total

    async def _again(self, earlier: Command, asked: JobEnvelope) -> CommandReply:
        if not says_the_same(earlier, asked):
            raise Conflict(
                "this idempotency key belongs to another command; use a new key for a new command",
                path="$.idempotencyKey",
            )
        return await self._reply(earlier)

    async def _reply(self, command: Command) -> CommandReply:
        async with self._database.read(command.organisation_id) as connection:
            sizes = await connection.run_sync(self._store.output_sizes, command.organisation_id, [command.id])
        kept = self.ledger.streams.kept_bytes(command.id, sizes[command.id])
        return CommandReply(command=view_of(self.ledger.as_known(command), kept))


def _not_stored(command: Command) -> NotFound | Conflict:
    """The agent was deleted a moment ago, or a person's own order is given twice: its id is the person's choice."""
    if len(command.signatures) == 1:
        return _no_agent(command.agent_id)
    return Conflict("there is a command with this order's id already, or the machine is gone; sign a new order")


def _no_agent(agent_id: str) -> NotFound:
    return NotFound(f"there is no agent {agent_id!r} in your organisation", path="$.agentId")


def _found(command: Command | None, command_id: str, path: str = "$.commandId") -> Command:
    if command is None:
        raise NotFound(f"there is no command {command_id!r} in your organisation", path=path)
    return command
