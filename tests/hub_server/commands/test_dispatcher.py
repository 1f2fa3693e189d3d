"""Commands reach connected agents at once, and after every loss again, until they are accepted or expire."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.commands.worker import Dispatcher
from hub_server.events import AgentConnected, Deliver
from hub_server.storage.engine import Database
from protocol.commands import CommandsCancel
from protocol.enumerations import CommandReason, CommandStatus, JobState
from protocol.frames import Command, CommandCancel, CommandQuery, CommandState
from tests.hub_server.commands.builders import Hub, accepted, result, started
from tests.hub_server.commands.conftest import Listener

MINUTE = 60.0
T = TypeVar("T")


async def connect(hub: Hub, agent_id: str) -> None:
    """What a session does: it enters, then says so."""
    hub.sessions.connected.add(agent_id)
    event = AgentConnected(organisation_id=hub.organisation_id, agent_id=agent_id, hostname="db-1", at=hub.clock.now())
    await hub.dispatcher.take([event])


async def test_a_command_for_a_connected_agent_goes_out_at_once(
    hub: Hub, agent_id: str, heard: Listener, deliveries: Listener
) -> None:
    hub.sessions.connected.add(agent_id)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.dispatcher.run(), name="dispatcher")
        await asyncio.sleep(0)
        view = await hub.create(agent_id)
        async with asyncio.timeout(30):
            [delivery] = await deliveries.subscription.batch(10)
        running.cancel()
    assert isinstance(delivery, Deliver)
    assert isinstance(delivery.frame, Command)
    assert (delivery.agent_id, delivery.frame.command_id) == (agent_id, view.id)
    assert delivery.frame.command_data == {"argv": ["uname", "-a"]}
    assert await heard.statuses() == [CommandStatus.SENT]
    assert (await hub.get(view.id)).status is CommandStatus.SENT


async def test_a_command_waits_for_its_agent(hub: Hub, agent_id: str, deliveries: Listener) -> None:
    view = await hub.create(agent_id)
    await hub.service.ledger.sweep()
    assert await deliveries.frames() == []
    assert (await hub.get(view.id)).status is CommandStatus.PENDING
    hub = await hub.restarted()
    await connect(hub, agent_id)
    [frame] = await deliveries.frames()
    assert frame.command_id == view.id
    assert (await hub.get(view.id)).status is CommandStatus.SENT


async def test_the_same_envelope_goes_out_again_until_it_is_accepted(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    [first] = await deliveries.frames()
    await connect(hub, agent_id)
    assert await deliveries.frames() == [first]
    hub.clock.advance(14)
    await hub.service.ledger.sweep()
    assert await deliveries.frames() == []
    hub.clock.advance(1)
    await hub.service.ledger.sweep()
    assert await deliveries.frames() == [first]
    await hub.service.accepted(hub.organisation_id, agent_id, accepted(view.id))
    hub.clock.advance(MINUTE)
    await hub.service.ledger.sweep()
    await connect(hub, agent_id)
    assert await deliveries.frames() == []
    assert (await hub.get(view.id)).status is CommandStatus.SENT


async def test_a_command_that_runs_is_never_sent_again(hub: Hub, agent_id: str, deliveries: Listener) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    stale = hub.service.ledger.opened.get(view.id)
    assert stale is not None
    await hub.started(agent_id, started(view.id))
    await deliveries.frames()
    hub.clock.advance(MINUTE)
    await hub.service.ledger.sweep()
    await connect(hub, agent_id)
    await hub.service.ledger.dispatch([stale])
    assert await deliveries.frames() == []
    restarted = await hub.restarted()
    await connect(restarted, agent_id)
    assert await deliveries.frames() == []


async def test_a_payload_altered_in_the_database_goes_out_as_it_stands(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    """The agent compares it with the signature; the hub does not mend what an intruder wrote."""
    view = await hub.create(agent_id)
    await hub.alter_payload(view.id, b'{"argv": ["rm"]}')
    await connect(hub, agent_id)
    [frame] = await deliveries.frames()
    assert isinstance(frame, Command)
    assert base64.b64decode(frame.payload) == b'{"argv": ["rm"]}'
    assert [signature.signature for signature in frame.signatures] == [base64.b64encode(b'{"kind":').decode()]


async def test_a_command_whose_time_is_over_fails_as_expired(
    hub: Hub, agent_id: str, heard: Listener, deliveries: Listener
) -> None:
    view = await hub.create(agent_id)
    hub.clock.advance(15 * MINUTE - 1)
    await hub.service.ledger.sweep()
    assert (await hub.get(view.id)).status is CommandStatus.PENDING
    hub.clock.advance(1)
    await connect(hub, agent_id)
    assert await deliveries.frames() == []
    await hub.service.ledger.sweep()
    expired = await hub.get(view.id)
    assert (expired.status, expired.reason) == (CommandStatus.FAILED, CommandReason.EXPIRED)
    assert expired.finished_at == hub.clock.now()
    assert len(await heard.ends()) == 1
    assert hub.service.pending_total(hub.organisation_id) == 0


async def test_a_command_that_was_sent_does_not_expire_while_its_agent_is_away(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    hub.sessions.connected.clear()
    hub.clock.advance(60 * MINUTE)
    await hub.service.ledger.sweep()
    assert (await hub.get(view.id)).status is CommandStatus.SENT
    await hub.service.reconcile(hub.organisation_id, agent_id, [])
    await deliveries.events()
    await connect(hub, agent_id)
    assert [event.frame for event in await deliveries.events() if isinstance(event, Deliver)] == [
        CommandQuery(command_id=view.id)
    ]
    unknown = CommandState(command_id=view.id, state=JobState.UNKNOWN)
    await hub.service.state(hub.organisation_id, agent_id, unknown)
    assert (await hub.get(view.id)).reason is CommandReason.EXPIRED


@pytest.mark.parametrize("state", [JobState.UNKNOWN, JobState.ACCEPTED])
async def test_a_command_that_a_connected_agent_does_not_accept_expires_when_the_agent_does_not_know_it(
    hub: Hub, agent_id: str, deliveries: Listener, state: JobState
) -> None:
    """What the agent said of it may be lost on a session that is dead already: it may have begun."""
    view = await hub.create(agent_id)
    await hub.send(view.id)
    hub.clock.advance(15 * MINUTE + 14)
    await hub.service.ledger.sweep()
    await deliveries.events()
    hub.clock.advance(1)
    for _ in range(2):
        await hub.service.ledger.sweep()
    asked = [event.frame for event in await deliveries.events() if isinstance(event, Deliver)]
    assert asked == [CommandQuery(command_id=view.id)]
    assert (await hub.get(view.id)).status is CommandStatus.SENT
    await hub.service.state(hub.organisation_id, agent_id, CommandState(command_id=view.id, state=state))
    expected = CommandReason.EXPIRED if state is JobState.UNKNOWN else None
    assert (await hub.get(view.id)).reason is expected


async def test_a_cancel_is_said_again_until_the_command_ends(hub: Hub, agent_id: str, deliveries: Listener) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    await hub.started(agent_id, started(view.id))
    await deliveries.frames()
    await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    hub.clock.advance(15)
    await hub.service.ledger.sweep()
    await connect(hub, agent_id)
    await connect(await hub.restarted(), agent_id)
    assert await deliveries.frames() == [CommandCancel(command_id=view.id)] * 4


async def test_the_sweep_finds_what_another_hub_created_and_ended(
    hub: Hub, agent_id: str, heard: Listener, deliveries: Listener
) -> None:
    other = await hub.restarted()
    view = await other.create(agent_id)
    hub.sessions.connected.add(agent_id)
    await hub.service.ledger.sweep()
    assert [frame.command_id for frame in await deliveries.frames()] == [view.id]
    assert hub.service.pending_total(hub.organisation_id) == 1
    await other.service.ledger.sweep()
    await other.started(agent_id, started(view.id))
    await other.result(agent_id, result(view.id))
    await heard.events()
    await hub.service.ledger.sweep()
    assert await heard.events() == []  # whoever stored it has not told it yet, for all that is known
    for _ in range(2):
        await hub.service.ledger.sweep()
    [end] = await heard.ends()
    assert (end.command_id, end.status) == (view.id, CommandStatus.COMPLETED)
    assert hub.service.pending_total(hub.organisation_id) == 0


async def test_the_sweep_finds_a_cancel_that_nobody_here_has_heard_of(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    """Another hub stored it, or whoever asked for it did not wait for the commit."""
    view = await hub.create(agent_id)
    await hub.send(view.id)
    other = await hub.restarted()
    await other.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    await deliveries.frames()
    hub.clock.advance(15)
    await hub.service.ledger.sweep()
    assert await deliveries.frames() == [CommandCancel(command_id=view.id)]


async def test_many_commands_are_sent_in_transactions_of_a_few(
    hub: Hub, agent_id: str, deliveries: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.commands.ledger.DISPATCHED_AT_ONCE", 2)
    views = [await hub.create(agent_id) for _ in range(5)]
    counting = CountingDatabase(hub.database)
    monkeypatch.setattr(hub.service.ledger, "_database", counting)
    await connect(hub, agent_id)
    assert [frame.command_id for frame in await deliveries.frames()] == [view.id for view in views]
    assert counting.transactions == 3


class CountingDatabase(Database):
    def __init__(self, real: Database) -> None:
        self.__dict__ = real.__dict__.copy()
        self.transactions = 0

    async def transact(self, organisation_id: str, work: Callable[[Connection], T]) -> T:
        self.transactions += 1
        return await super().transact(organisation_id, work)


class AwayDatabase(Database):
    """Refuses transactions while it is away."""

    def __init__(self, real: Database) -> None:
        self.__dict__ = real.__dict__
        self.away = False

    @asynccontextmanager
    async def write(self, organisation_id: str) -> AsyncIterator[AsyncConnection]:
        if self.away:
            raise OperationalError("BEGIN", None, Exception("database is locked"))
        async with super().write(organisation_id) as connection:
            yield connection

    async def transact(self, organisation_id: str, work: Callable[[Connection], T]) -> T:
        if self.away:
            raise OperationalError("BEGIN", None, Exception("database is locked"))
        return await super().transact(organisation_id, work)


async def test_a_database_that_is_away_costs_a_sweep_and_no_command(
    hub: Hub, agent_id: str, deliveries: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = AwayDatabase(hub.database)
    flaky = Hub(away, hub.bus, hub.clock, hub.organisation_id, hub.agents)
    view = await flaky.create(agent_id)
    away.away = True
    await connect(flaky, agent_id)
    assert flaky.dispatcher.failures == 1
    assert await deliveries.frames() == []
    away.away = False
    monkeypatch.setattr("hub_server.commands.worker.SWEEP_SECONDS", 0.01)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Dispatcher(bus=hub.bus, ledger=flaky.service.ledger).run(), name="dispatcher")
        async with asyncio.timeout(30):
            [delivery] = await deliveries.subscription.batch(10)
        running.cancel()
    assert isinstance(delivery, Deliver)
    assert isinstance(delivery.frame, Command)
    assert delivery.frame.command_id == view.id
