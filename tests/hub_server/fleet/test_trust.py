"""Quarantine, release and revocation: what is stored, what is told, and what is refused; on both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.audit.tables import AuditRow
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.errors import Conflict, Forbidden, NotFound
from hub_server.events import AgentChanged, AgentTrustChanged, DomainEvent, SessionEndRequested
from hub_server.fleet.model import Agent
from hub_server.fleet.service import FleetService
from hub_server.fleet.store import FleetStore
from hub_server.fleet.trust import TrustDesk
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AgentTrust, ConnectionReason, Role
from protocol.operations import AgentsQuarantine, AgentsRelease, AgentsRevoke
from tests.clocks import FakeClock
from tests.hub_server.fleet.test_fleet import Anchored, Fleet, principal

FAMILIES: Final = frozenset({"deliver", "fleet"})


class Revocations:
    """Whose certificates were revoked, within the transaction and after it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.noted: list[str] = []

    async def revoke_agent(self, _connection: AsyncConnection, _organisation_id: str, agent_id: str) -> None:
        self.asked.append(agent_id)

    def note_revoked(self, agent_id: str) -> None:
        self.noted.append(agent_id)


class Office:
    """A fleet with its desk."""

    def __init__(self, database: Database, bus: InProcessBus, clock: FakeClock) -> None:
        self.fleet = Fleet(database, bus, clock)
        self.bus = bus
        self.revocations = Revocations()
        self._clock = clock
        self.desk = self.desk_of(self.fleet.service)

    def desk_of(self, service: FleetService) -> TrustDesk:
        return TrustDesk(
            database=self.fleet.database,
            bus=self.bus,
            clock=self._clock,
            store=FleetStore(),
            fleet=service,
            certificates=self.revocations,
        )

    async def audited(self) -> list[str]:
        query = (
            select(col(AuditRow.action))
            .where(col(AuditRow.action).startswith("agents:"))
            .order_by(col(AuditRow.number))
        )
        async with self.fleet.database.read(EVERY_ORGANISATION) as connection:
            return list(await connection.scalars(query))


@pytest.fixture
def office(database: Database, bus: InProcessBus, clock: FakeClock) -> Office:
    return Office(database, bus, clock)


async def test_a_quarantine_ends_the_session_and_a_release_lets_in_again(office: Office, organisation_id: str) -> None:
    agent_id, person = await office.fleet.with_agent(organisation_id), principal(organisation_id)
    about = {"organisation_id": organisation_id, "agent_id": agent_id}
    with office.bus.subscribe(FAMILIES, name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as heard:
        agent = await office.desk.quarantine(person, AgentsQuarantine(agent_id=agent_id, reason="odd"))
        assert (agent.trust, agent.trust_reason) == (AgentTrust.QUARANTINED, "odd")
        events: list[DomainEvent] = await heard.batch(9)
        assert events == [
            AgentChanged(**about),
            SessionEndRequested(**about, reason=ConnectionReason.QUARANTINED),
            AgentTrustChanged(**about, trust=AgentTrust.QUARANTINED, reason="odd", by_hub=False),
        ]
        agent = await office.desk.release(person, AgentsRelease(agent_id=agent_id))
        assert (agent.trust, agent.trust_reason) == (AgentTrust.TRUSTED, "")
        assert await heard.batch(9) == [
            AgentChanged(**about),
            AgentTrustChanged(**about, trust=AgentTrust.TRUSTED, reason="", by_hub=False),
        ]
    assert office.revocations.asked == []
    assert await office.audited() == ["agents:quarantine", "agents:release"]


async def test_a_revocation_is_for_good(office: Office, organisation_id: str) -> None:
    agent_id, person = await office.fleet.with_agent(organisation_id), principal(organisation_id)
    for _ in range(2):  # the second time it is so already
        agent = await office.desk.revoke(person, AgentsRevoke(agent_id=agent_id, reason="stolen"))
        assert agent.trust is AgentTrust.REVOKED
    assert (office.revocations.asked, office.revocations.noted) == ([agent_id], [agent_id])
    with pytest.raises(Conflict, match="enroll anew"):
        await office.desk.release(person, AgentsRelease(agent_id=agent_id))
    with pytest.raises(Conflict):
        await office.desk.quarantine(person, AgentsQuarantine(agent_id=agent_id))
    assert await office.audited() == ["agents:revoke"]
    await office.fleet.service.load()
    assert office.fleet.service.is_revoked(organisation_id, agent_id)


async def test_only_who_may_revoke_decides_and_only_in_the_own_organisation(
    office: Office, organisation_id: str
) -> None:
    agent_id = await office.fleet.with_agent(organisation_id)
    for role in (Role.TECHNICIAN, Role.OPERATOR, Role.APPROVER, Role.AUDITOR, Role.VIEWER):
        with pytest.raises(Forbidden):
            await office.desk.revoke(principal(organisation_id, role), AgentsRevoke(agent_id=agent_id))
    with pytest.raises(NotFound):
        await office.desk.revoke(principal("another"), AgentsRevoke(agent_id=agent_id))
    assert office.fleet.service.trust_of(agent_id) is AgentTrust.TRUSTED


async def test_decisions_that_race_leave_what_the_database_says(office: Office, organisation_id: str) -> None:
    agent_id, person = await office.fleet.with_agent(organisation_id), principal(organisation_id)
    async with asyncio.timeout(30):
        await asyncio.gather(
            office.desk.revoke(person, AgentsRevoke(agent_id=agent_id)),
            *(office.desk.quarantine(person, AgentsQuarantine(agent_id=agent_id)) for _ in range(3)),
            return_exceptions=True,
        )
    assert office.fleet.service.is_revoked(organisation_id, agent_id)
    await office.fleet.service.load()
    assert office.fleet.service.is_revoked(organisation_id, agent_id)


async def test_another_hubs_decisions_are_learnt_with_the_next_look(
    office: Office, database: Database, clock: FakeClock, organisation_id: str
) -> None:
    agents = [await office.fleet.with_agent(organisation_id) for _ in range(3)]
    other = Office(database, InProcessBus(), clock)
    await other.fleet.service.load()
    await office.desk.quarantine(principal(organisation_id), AgentsQuarantine(agent_id=agents[0]))
    await office.desk.revoke(principal(organisation_id), AgentsRevoke(agent_id=agents[1]))
    await other.fleet.service.reload_trust()
    standings = [other.fleet.service.trust_of(agent_id) for agent_id in agents]
    assert standings == [AgentTrust.QUARANTINED, AgentTrust.REVOKED, AgentTrust.TRUSTED]
    await office.desk.release(principal(organisation_id), AgentsRelease(agent_id=agents[0]))
    await other.fleet.service.reload_trust()
    assert other.fleet.service.trust_of(agents[0]) is AgentTrust.TRUSTED


class Interrupted(FleetStore):
    """A store that lets something be decided after it has read."""

    def __init__(self, decide: Callable[[], Awaitable[object]]) -> None:
        self._decide = decide

    async def kept_out(self, connection: AsyncConnection) -> list[Agent]:
        found = await super().kept_out(connection)
        await self._decide()
        return found


async def test_a_look_that_was_overtaken_takes_no_decision_back(
    office: Office, database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str
) -> None:
    agent_id = await office.fleet.with_agent(organisation_id)

    async def decide() -> None:
        await office.desk.quarantine(principal(organisation_id), AgentsQuarantine(agent_id=agent_id))

    service = FleetService(
        database=database, bus=bus, clock=clock, store=Interrupted(decide), anchor=Anchored(), purges=()
    )
    office.desk = office.desk_of(service)
    await service.load()
    await service.reload_trust()
    assert service.trust_of(agent_id) is AgentTrust.QUARANTINED
