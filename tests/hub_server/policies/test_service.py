"""Policies made, changed and deleted by people, and asked about jobs; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

from hub_server.audit.tables import AuditRow
from hub_server.errors import Conflict, Forbidden, InvalidRequest, NotFound, QuotaReached
from hub_server.policies import service
from hub_server.policies.tables import PolicyRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.actions import ExecData, RebootData
from protocol.enumerations import Role
from protocol.policies import (
    Capability,
    CommandRules,
    PoliciesCreate,
    PoliciesDelete,
    PoliciesGet,
    PoliciesList,
    PoliciesUpdate,
    PolicyTerms,
)
from tests.hub_server.policies.builders import FIREWALL, OPENSSL, World, person

NO_REBOOT: dict[str, Any] = {"turned_off": [Capability.REBOOT]}


async def audited(world: World) -> list[str]:
    async with world.database.read(EVERY_ORGANISATION) as connection:
        return list(await connection.scalars(select(col(AuditRow.action)).order_by(col(AuditRow.number))))


def reboot(world: World, agent_id: str = "a") -> None:
    world.policies.check(world.organisation_id, agent_id, RebootData(), reason="", is_countersigned=False)


async def test_a_policy_is_made_changed_and_deleted_with_its_audit_rows(world: World) -> None:
    made = await world.make(" Web ", FIREWALL, tags=["web"])
    assert (made.terms.name, made.version, made.created_by) == ("Web", 1, "user:ada")
    world.clock.advance(60)
    changed = await world.change(made.id, OPENSSL, version=1)
    assert (changed.version, changed.terms.checks, changed.created_at) == (2, [OPENSSL], made.created_at)
    assert changed.changed_at > made.changed_at
    got = await world.policies.get(world.viewer, PoliciesGet(policy_id=made.id))
    assert got.policy == changed
    await world.policies.delete(world.admin, PoliciesDelete(policy_id=made.id))
    assert (await world.policies.list(world.viewer, PoliciesList())).policies == []
    assert await audited(world) == ["policies:create", "policies:update", "policies:delete"]


async def test_a_restart_finds_the_same_policies(world: World) -> None:
    rules = CommandRules(allowed_programs=["uptime"], reason_required=True)
    made = await world.make("Web", FIREWALL, tags=["web"], commands=rules, **NO_REBOOT)
    await world.restart()
    assert (await world.policies.list(world.viewer, PoliciesList())).policies == [made]


async def test_nobody_overwrites_what_another_changed_meanwhile(world: World) -> None:
    made = await world.make("Web")
    await world.change(made.id, FIREWALL, version=1)
    with pytest.raises(Conflict, match="user:ada changed this policy meanwhile"):
        await world.change(made.id, OPENSSL, version=1)
    assert (await world.change(made.id, OPENSSL)).version == 3


async def test_a_name_is_given_once(world: World) -> None:
    other = await world.make("Other")
    await world.make("Web")
    for attempt in (world.make("Web"), world.change(other.id, name="Web")):
        with pytest.raises(Conflict, match="already a policy Web"):
            await attempt
    assert [view.terms.name for view in (await world.policies.list(world.viewer, PoliciesList())).policies] == [
        "Other",
        "Web",
    ]


async def test_what_cannot_be_is_refused_and_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest):
        await world.make(" ")
    with pytest.raises(InvalidRequest):
        await world.make("Twice", FIREWALL, FIREWALL)
    monkeypatch.setattr(service, "POLICIES_MAX", 0)
    with pytest.raises(QuotaReached):
        await world.make("One too many")
    assert await audited(world) == []


@pytest.mark.parametrize("role", [Role.VIEWER, Role.TECHNICIAN, Role.HUB_ADMIN, Role.AUDITOR])
async def test_only_administrators_of_the_organisation_change_policies(world: World, role: Role) -> None:
    made = await world.make("Web")
    somebody = person(world.organisation_id, role)
    for attempt in (
        world.policies.create(somebody, PoliciesCreate(terms=PolicyTerms(name="Mine"))),
        world.policies.update(somebody, PoliciesUpdate(policy_id=made.id, terms=PolicyTerms(name="Mine"))),
        world.policies.delete(somebody, PoliciesDelete(policy_id=made.id)),
    ):
        with pytest.raises(Forbidden):
            await attempt
    assert (await world.policies.list(somebody, PoliciesList())).policies == [made]


async def test_another_organisation_sees_and_changes_nothing(world: World) -> None:
    made = await world.make("Web")
    stranger = person("another", Role.ORG_ADMIN)
    assert (await world.policies.list(stranger, PoliciesList())).policies == []
    for attempt in (
        world.policies.get(stranger, PoliciesGet(policy_id=made.id)),
        world.policies.update(stranger, PoliciesUpdate(policy_id=made.id, terms=PolicyTerms(name="Mine"))),
        world.policies.delete(stranger, PoliciesDelete(policy_id=made.id)),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert (await world.policies.get(world.viewer, PoliciesGet(policy_id=made.id))).policy == made


async def test_a_job_is_refused_as_long_as_a_policy_refuses_it(world: World) -> None:
    await world.add("a", "web")
    await world.add("b", "db")
    reboot(world)
    made = await world.make("Web", tags=["web"], **NO_REBOOT)
    assert made.machines == 1
    with pytest.raises(Forbidden, match="“Web” refuses this \\(turnedOff\\)"):
        reboot(world)
    reboot(world, "b")
    world.policies.check(world.organisation_id, "a", ExecData(argv=["uptime"]), reason="", is_countersigned=False)
    await world.change(made.id, enabled=False, **NO_REBOOT)
    reboot(world)
    await world.change(made.id, **NO_REBOOT)
    with pytest.raises(Forbidden):
        reboot(world)
    await world.policies.delete(world.admin, PoliciesDelete(policy_id=made.id))
    reboot(world)


async def test_what_another_hub_changed_is_learnt_by_reading_again(world: World) -> None:
    await world.add("a")
    made = await world.make("All", **NO_REBOOT)
    async with world.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(PolicyRow.__table__.delete().where(col(PolicyRow.id) == made.id))  # type: ignore[attr-defined]
    world.policies.changed.clear()
    await world.policies.load()
    assert world.policies.changed.is_set()
    reboot(world)
    world.policies.changed.clear()
    await world.policies.load()
    assert not world.policies.changed.is_set()
