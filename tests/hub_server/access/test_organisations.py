"""Organisations and their quotas: the bound holds also for those who add at once."""

from __future__ import annotations

import asyncio
import uuid

import msgspec
import pytest
from sqlalchemy import insert, select
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.access.organisations import OrganisationService
from hub_server.access.quotas import Quotas as QuotaChecks
from hub_server.access.tables import MembershipRow, UserRow
from hub_server.audit.tables import AuditRow
from hub_server.commands.store import CommandStore
from hub_server.errors import Conflict, Forbidden, InvalidRequest, NotFound, QuotaReached
from hub_server.fleet.store import FleetStore
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.people import OrganisationsCreate, OrganisationsList, OrganisationsUpdate, OrganisationView, Quotas
from tests.clocks import FakeClock

RACERS = 12


@pytest.fixture
def organisations(database: Database, clock: FakeClock) -> OrganisationService:
    return OrganisationService(database=database, clock=clock, agents=FleetStore().counts)


@pytest.fixture
def checks() -> QuotaChecks:
    return QuotaChecks(agents=FleetStore().counts, open_commands=CommandStore().open_counts)


@pytest.fixture
def administrator(organisation_id: str) -> Principal:
    return Principal(user_id="u1", username="hana", organisation_id=organisation_id, role=Role.HUB_ADMIN)


async def made(organisations: OrganisationService, administrator: Principal, **quotas: int) -> OrganisationView:
    request = OrganisationsCreate(name=f"org {uuid.uuid4()}", quotas=Quotas(**quotas))
    return (await organisations.create(administrator, request)).organisation


async def add_agent(database: Database, checks: QuotaChecks, organisation_id: str, clock: FakeClock) -> None:
    agent = {"id": str(uuid.uuid4()), "hostname": "h", "name": "h", "os_type": "linux", "agent_version": "1"}
    async with database.write(organisation_id) as connection:
        await checks.check_agents(connection, organisation_id)
        await connection.execute(
            insert(AgentRow).values(**agent, organisation_id=organisation_id, enrolled_at=clock.now())
        )


async def add_user(database: Database, checks: QuotaChecks, organisation_id: str, clock: FakeClock) -> None:
    user_id = str(uuid.uuid4())
    async with database.write(organisation_id) as connection:
        await checks.check_users(connection, organisation_id)
        await connection.execute(
            insert(UserRow).values(id=user_id, username=user_id, password_hash="", created_at=clock.now())
        )
        await connection.execute(
            insert(MembershipRow).values(user_id=user_id, organisation_id=organisation_id, role="viewer")
        )


@pytest.mark.parametrize(("kind", "add"), [("agents", add_agent), ("users", add_user)])
async def test_those_who_add_at_once_do_not_pass_the_bound_together(
    kind: str,
    add: object,
    organisations: OrganisationService,
    administrator: Principal,
    checks: QuotaChecks,
    database: Database,
    clock: FakeClock,
) -> None:
    assert callable(add)
    organisation = await made(organisations, administrator, **{kind: 5})
    async with asyncio.timeout(60):
        answers = await asyncio.gather(
            *(add(database, checks, organisation.id, clock) for _ in range(RACERS)), return_exceptions=True
        )
    refused = [answer for answer in answers if isinstance(answer, QuotaReached)]
    assert (len(refused), answers.count(None)) == (RACERS - 5, 5)
    assert getattr(await organisations.named(organisation.id), kind) == 5
    assert "may have 5" in refused[0].message


async def test_a_lower_bound_keeps_what_is_there_and_one_organisation_does_not_count_for_another(
    organisations: OrganisationService,
    administrator: Principal,
    checks: QuotaChecks,
    database: Database,
    clock: FakeClock,
) -> None:
    first, second = await made(organisations, administrator), await made(organisations, administrator, agents=1)
    for _ in range(3):
        await add_agent(database, checks, first.id, clock)
    await add_agent(database, checks, second.id, clock)
    request = OrganisationsUpdate(organisation_id=first.id, quotas=Quotas(agents=2))
    changed = (await organisations.update(administrator, request)).organisation
    assert (changed.agents, changed.quotas.agents, changed.name) == (3, 2, first.name)
    with pytest.raises(QuotaReached):
        await add_agent(database, checks, first.id, clock)


async def test_only_an_administrator_of_the_hub_may_ask(
    organisations: OrganisationService, administrator: Principal
) -> None:
    for role in Role:
        principal = msgspec.structs.replace(administrator, role=role)
        if role is Role.HUB_ADMIN:
            continue
        with pytest.raises(Forbidden):
            await organisations.create(principal, OrganisationsCreate(name="mine"))
        with pytest.raises(Forbidden):
            await organisations.update(
                principal, OrganisationsUpdate(organisation_id=principal.organisation_id, quotas=Quotas())
            )
        with pytest.raises(Forbidden):
            await organisations.list(principal, OrganisationsList())
    assert (await organisations.list(administrator, OrganisationsList())).total == 1


async def test_names_are_unique_and_not_empty(organisations: OrganisationService, administrator: Principal) -> None:
    first = (await organisations.create(administrator, OrganisationsCreate(name=" Acme "))).organisation
    assert first.name == "Acme"
    other = await made(organisations, administrator)
    with pytest.raises(Conflict):
        await organisations.create(administrator, OrganisationsCreate(name="Acme"))
    with pytest.raises(Conflict):
        await organisations.update(administrator, OrganisationsUpdate(organisation_id=other.id, name="Acme"))
    with pytest.raises(InvalidRequest):
        await organisations.create(administrator, OrganisationsCreate(name="  "))
    with pytest.raises(NotFound):
        await organisations.update(administrator, OrganisationsUpdate(organisation_id="none", name="x"))
    assert (await organisations.list(administrator, OrganisationsList(limit=1))).total == 3


async def test_the_deed_is_in_the_audit_of_both_organisations(
    organisations: OrganisationService, administrator: Principal, database: Database
) -> None:
    organisation = await made(organisations, administrator, users=3)
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = (await connection.execute(select(AuditRow).order_by(col(AuditRow.number)))).all()
    assert [(row.organisation_id, row.actor, row.action, row.target) for row in rows] == [
        (audience, "user:hana", "organisations:create", f"organisation:{organisation.id}")
        for audience in (administrator.organisation_id, organisation.id)
    ]
