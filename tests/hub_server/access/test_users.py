"""Administration of people: what is allowed, what it does, and what it ends."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.model import PERMISSIONS, OnMachine, Permission, Principal
from hub_server.access.session_store import SessionStore
from hub_server.access.tables import OrganisationRow, UserRow
from hub_server.audit.tables import AuditRow
from hub_server.errors import Conflict, Forbidden, HubError, InvalidRequest, NotFound, QuotaReached, Unauthenticated
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.people import (
    RolesList,
    UsersCreate,
    UsersList,
    UsersName,
    UsersSetPassword,
    UsersSetRole,
)
from tests.clocks import FakeClock
from tests.hub_server.access.conftest import HOME, PASSWORD, House, credentials, house_on

NEW_PASSWORD = "an entirely new passphrase 9"
Deed = Callable[[House, Principal, str], Awaitable[object]]
DEEDS: dict[str, Deed] = {
    "set-role": lambda house, who, user_id: house.users.set_role(who, UsersSetRole(user_id=user_id, role=Role.VIEWER)),
    "set-password": lambda house, who, user_id: house.users.set_password(
        who, UsersSetPassword(user_id=user_id, password=NEW_PASSWORD)
    ),
    "remove-totp": lambda house, who, user_id: house.users.remove_totp(who, UsersName(user_id=user_id)),
    "lock": lambda house, who, user_id: house.users.lock(who, UsersName(user_id=user_id)),
    "unlock": lambda house, who, user_id: house.users.unlock(who, UsersName(user_id=user_id)),
    "remove": lambda house, who, user_id: house.users.remove(who, UsersName(user_id=user_id)),
}


@pytest.fixture
async def other_organisation(database: Database, clock: FakeClock) -> str:
    identifier = str(uuid.uuid4())
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(
            insert(OrganisationRow).values(id=identifier, name=f"other {identifier}", created_at=clock.now())
        )
    return identifier


class Full:
    """Quotas of an organisation that may have no more."""

    async def check_users(self, connection: AsyncConnection, organisation_id: str) -> None:  # noqa: ARG002
        raise QuotaReached("full")


async def added(house: House, organisation_id: str, name: str, role: Role) -> Principal:
    user_id = await house.add(organisation_id, name, role)
    return Principal(user_id=user_id, username=name, organisation_id=organisation_id, role=role)


async def changes(house: House) -> int:
    async with house.database.read(EVERY_ORGANISATION) as connection:
        return await connection.scalar(select(func.count()).select_from(AuditRow)) or 0


@pytest.mark.parametrize("granter", Role)
async def test_nobody_grants_more_than_they_have(house: House, organisation_id: str, granter: Role) -> None:
    who = await added(house, organisation_id, "granter", granter)
    may = {
        role
        for role in Role
        if Permission.USERS_WRITE in PERMISSIONS[granter] and PERMISSIONS[role] <= PERMISSIONS[granter]
    }
    shown = await house.users.roles(who, RolesList())
    assert {view.role for view in shown.roles if view.is_grantable} == may
    for role in Role:
        request = UsersCreate(username=f"new-{role.value}", password=PASSWORD, role=role)
        if role in may:
            assert (await house.users.create(who, request)).user.role is role
        else:
            with pytest.raises(Forbidden):
                await house.users.create(who, request)


@pytest.mark.parametrize("deed", DEEDS)
async def test_who_may_do_more_is_out_of_reach(house: House, organisation_id: str, deed: str) -> None:
    hub_admin = await added(house, organisation_id, "harriet", Role.HUB_ADMIN)
    technician = await added(house, organisation_id, "terry", Role.TECHNICIAN)
    before = await changes(house)
    with pytest.raises(Forbidden, match="more than yours"):
        await DEEDS[deed](house, hub_admin, technician.user_id)
    viewer = await added(house, organisation_id, "vera", Role.VIEWER)
    with pytest.raises(Forbidden):
        await DEEDS[deed](house, technician, viewer.user_id)
    assert await changes(house) == before + 1
    await DEEDS[deed](house, hub_admin, viewer.user_id)
    assert (await house.actions())[-1] == f"users:{deed}"


@pytest.mark.parametrize("deed", DEEDS)
async def test_people_of_another_organisation_are_not_found(
    house: House, organisation_id: str, other_organisation: str, deed: str
) -> None:
    admin = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    stranger = await added(house, other_organisation, "eve", Role.VIEWER)
    before = await changes(house)
    with pytest.raises(NotFound):
        await DEEDS[deed](house, admin, stranger.user_id)
    assert await changes(house) == before


@pytest.mark.parametrize(("deed", "allowed"), [(deed, deed in {"set-role", "remove"}) for deed in DEEDS])
async def test_the_account_of_somebody_who_is_elsewhere_too_is_their_own(
    house: House, organisation_id: str, other_organisation: str, deed: str, allowed: bool
) -> None:
    admin = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    guest = await added(house, organisation_id, "guest", Role.OPERATOR)
    await house.users.grant(OnMachine(organisation_id=other_organisation), "Guest", Role.VIEWER)
    if allowed:
        await DEEDS[deed](house, admin, guest.user_id)
    else:
        with pytest.raises(Forbidden, match="another organisation"):
            await DEEDS[deed](house, admin, guest.user_id)
    elsewhere = await house.users.list(OnMachine(organisation_id=other_organisation), UsersList())
    assert [(user.username, user.role, user.locked_at) for user in elsewhere.users] == [("guest", Role.VIEWER, None)]
    assert (await house.access.sign_in(credentials("guest", organisation=other_organisation), HOME)).access_token


@pytest.mark.parametrize("deed", ["set-role", "lock", "remove"])
async def test_the_last_administrator_stays(house: House, organisation_id: str, deed: str) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    grace = await added(house, organisation_id, "grace", Role.ORG_ADMIN)
    await house.users.lock(ada, UsersName(user_id=grace.user_id))
    with pytest.raises(Conflict, match="administrator"):
        await DEEDS[deed](house, ada, ada.user_id)
    await house.users.unlock(ada, UsersName(user_id=grace.user_id))
    await DEEDS[deed](house, ada, ada.user_id)


@pytest.mark.parametrize("deed", ["set-role", "lock", "remove"])
async def test_two_administrators_who_end_each_other_at_once_are_never_both_gone(
    house: House, organisation_id: str, deed: str
) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    grace = await added(house, organisation_id, "grace", Role.ORG_ADMIN)
    outcomes = await asyncio.gather(
        DEEDS[deed](house, ada, grace.user_id), DEEDS[deed](house, grace, ada.user_id), return_exceptions=True
    )
    assert sum(isinstance(outcome, HubError) for outcome in outcomes) == 1
    listed = await house.users.list(OnMachine(organisation_id=organisation_id), UsersList())
    assert [user.role for user in listed.users if user.locked_at is None].count(Role.ORG_ADMIN) == 1


async def test_who_lost_the_right_a_moment_ago_changes_nothing(house: House, organisation_id: str) -> None:
    """Whatever the socket still believes: the transaction looks again."""
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    await added(house, organisation_id, "grace", Role.ORG_ADMIN)
    vera = await added(house, organisation_id, "vera", Role.VIEWER)
    machine = OnMachine(organisation_id=organisation_id)
    await house.users.set_role(machine, UsersSetRole(user_id=ada.user_id, role=Role.VIEWER))
    for deed in DEEDS.values():
        with pytest.raises(Unauthenticated):
            await deed(house, ada, vera.user_id)
    with pytest.raises(Unauthenticated):
        await house.users.create(ada, UsersCreate(username="new", password=PASSWORD, role=Role.VIEWER))


async def test_ones_own_password_and_second_factor_take_the_password(house: House, organisation_id: str) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    for deed in ("set-password", "remove-totp"):
        with pytest.raises(Forbidden, match=f"account:{deed}"):
            await DEEDS[deed](house, ada, ada.user_id)


@pytest.mark.parametrize("deed", ["set-password", "remove-totp", "lock", "remove", "set-role"])
async def test_what_ends_a_sign_in_ends_its_standing_in_the_same_breath(
    house: House, organisation_id: str, deed: str
) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    grace = await added(house, organisation_id, "grace", Role.OPERATOR)
    signed_in = await house.access.sign_in(credentials("grace"), HOME)
    own = await house.access.session_of((await house.access.sign_in(credentials("ada"), HOME)).access_token)
    session = await house.access.session_of(signed_in.access_token)
    house.standings.changed.clear()
    await DEEDS[deed](house, ada, grace.user_id)
    assert session.standing.is_over
    assert house.standings.changed.is_set()
    assert not own.standing.is_over
    with pytest.raises(Unauthenticated):
        await house.access.session_of(signed_in.access_token)
    if deed == "set-role":
        renewed = await house.access.refresh(signed_in.refresh_token, HOME)
        assert (await house.access.principal_of(renewed.access_token)).role is Role.VIEWER
    else:
        with pytest.raises(Unauthenticated):
            await house.access.refresh(signed_in.refresh_token, HOME)


@pytest.mark.parametrize("deed", ["set-password", "remove-totp", "lock", "remove", "set-role"])
async def test_what_another_process_did_is_found_by_the_sweep(
    house: House, database: Database, clock: FakeClock, jwt_key: Ed25519PrivateKey, organisation_id: str, deed: str
) -> None:
    grace = await added(house, organisation_id, "grace", Role.OPERATOR)
    await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    sessions = [
        await house.access.session_of((await house.access.sign_in(credentials(name), HOME)).access_token)
        for name in ("grace", "ada")
    ]
    elsewhere = house_on(database, clock, jwt_key)
    machine = OnMachine(organisation_id=organisation_id)
    match deed:
        case "set-role":
            await elsewhere.users.grant(machine, "grace", Role.VIEWER)
        case "set-password":
            await elsewhere.users.set_password(machine, UsersSetPassword(user_id=grace.user_id, password=NEW_PASSWORD))
        case _:
            await getattr(elsewhere.users, deed.replace("-", "_"))(machine, UsersName(user_id=grace.user_id))
    assert not sessions[0].standing.is_over
    await house.access.note_ended(sessions)
    assert [session.standing.is_over for session in sessions] == [True, False]


async def test_a_lock_between_the_look_into_the_database_and_the_welcome_is_not_missed(
    house: House, organisation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    grace = await added(house, organisation_id, "grace", Role.OPERATOR)
    signed_in = await house.access.sign_in(credentials("grace"), HOME)
    look = SessionStore.second_factor_of

    async def look_and_then_lock(store: SessionStore, *arguments: Any) -> bool | None:
        found = await look(store, *arguments)
        await house.users.lock(ada, UsersName(user_id=grace.user_id))
        return found

    monkeypatch.setattr(SessionStore, "second_factor_of", look_and_then_lock)
    with pytest.raises(Unauthenticated):
        await house.access.session_of(signed_in.access_token)


async def test_who_is_removed_from_the_last_organisation_is_forgotten(
    house: House, organisation_id: str, other_organisation: str
) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    grace = await added(house, organisation_id, "grace", Role.OPERATOR)
    await house.users.grant(OnMachine(organisation_id=other_organisation), "grace", Role.VIEWER)
    await house.users.remove(ada, UsersName(user_id=grace.user_id))
    async with house.database.read(EVERY_ORGANISATION) as connection:
        assert await connection.scalar(select(col(UserRow.id)).where(col(UserRow.username) == "grace"))
    await house.users.remove(OnMachine(organisation_id=other_organisation), UsersName(user_id=grace.user_id))
    async with house.database.read(EVERY_ORGANISATION) as connection:
        assert not await connection.scalar(select(col(UserRow.id)).where(col(UserRow.username) == "grace"))


async def test_a_locked_person_is_out_until_they_are_unlocked(house: House, organisation_id: str) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    grace = await added(house, organisation_id, "grace", Role.OPERATOR)
    locked = await house.users.lock(ada, UsersName(user_id=grace.user_id))
    assert locked.user.locked_at is not None
    with pytest.raises(Unauthenticated):
        await house.access.sign_in(credentials("grace"), HOME)
    await house.users.unlock(ada, UsersName(user_id=grace.user_id))
    await house.access.sign_in(credentials("grace"), HOME)


async def test_the_list_is_of_ones_own_organisation_by_name(
    house: House, organisation_id: str, other_organisation: str, clock: FakeClock
) -> None:
    ada = await added(house, organisation_id, "ada", Role.ORG_ADMIN)
    for name in ("carol", "bob"):
        await house.add(organisation_id, name, Role.VIEWER)
    await house.add(other_organisation, "eve", Role.VIEWER)
    await house.access.sign_in(credentials("bob"), HOME)
    reply = await house.users.list(ada, UsersList())
    assert [user.username for user in reply.users] == ["ada", "bob", "carol"]
    assert [user.last_sign_in_at for user in reply.users] == [None, clock.now(), None]
    assert (reply.total, set(reply.grantable)) == (3, set(Role) - {Role.HUB_ADMIN})
    second = await house.users.list(ada, UsersList(limit=1, offset=1))
    assert ([user.username for user in second.users], second.total) == (["bob"], 3)


async def test_a_weak_password_or_a_bad_name_makes_no_user(house: House, organisation_id: str) -> None:
    machine = OnMachine(organisation_id=organisation_id)
    for weak in ("short", "password1234", "abababababab", "I-am-grace-hopper-1!"):
        with pytest.raises(InvalidRequest) as refused:
            await house.users.create(machine, UsersCreate(username="Grace", password=weak, role=Role.VIEWER))
        assert refused.value.path == "$.password"
    for name in ("  ", "a\nb", "x" * 129, "ada+key", "user:ada"):
        with pytest.raises(InvalidRequest) as refused:
            await house.users.create(machine, UsersCreate(username=name, password=PASSWORD, role=Role.VIEWER))
        assert refused.value.path == "$.username"
    assert await changes(house) == 0


async def test_a_name_is_taken_once(house: House, organisation_id: str, other_organisation: str) -> None:
    await house.add(organisation_id, "ada", Role.VIEWER)
    with pytest.raises(Conflict):
        await house.add(other_organisation, "ADA", Role.VIEWER)


async def test_a_quota_of_people_holds_for_new_ones_and_for_those_let_in(
    house: House, organisation_id: str, other_organisation: str
) -> None:
    await house.add(other_organisation, "eve", Role.VIEWER)
    house.users._quotas = Full()
    with pytest.raises(QuotaReached):
        await house.add(organisation_id, "ada", Role.VIEWER)
    with pytest.raises(QuotaReached):
        await house.users.grant(OnMachine(organisation_id=organisation_id), "eve", Role.VIEWER)
    await house.users.grant(OnMachine(organisation_id=other_organisation), "eve", Role.OPERATOR)


async def test_a_name_of_nobody_or_of_elsewhere_is_not_found_on_the_machine(
    house: House, organisation_id: str, other_organisation: str
) -> None:
    eve = await house.add(other_organisation, "eve", Role.VIEWER)
    machine = OnMachine(organisation_id=organisation_id)
    for name in ("nobody", "eve"):
        with pytest.raises(NotFound):
            await house.users.id_of(machine, name)
    assert await house.users.id_of(OnMachine(organisation_id=other_organisation), " EVE ") == eve


async def test_a_limited_administrator_changes_nobody(house: House, organisation_id: str) -> None:
    ada = structs.replace(await added(house, organisation_id, "ada", Role.ORG_ADMIN), is_limited=True)
    vera = await added(house, organisation_id, "vera", Role.VIEWER)
    for deed in DEEDS.values():
        with pytest.raises(Forbidden, match="second factor"):
            await deed(house, ada, vera.user_id)


async def test_the_first_organisation_is_made_once(
    database: Database, clock: FakeClock, jwt_key: Ed25519PrivateKey
) -> None:
    hubs = [house_on(database, clock, jwt_key).users for _ in range(4)]
    made = await asyncio.gather(*(hub.ensure_default_organisation() for hub in hubs))
    assert len(set(made)) == 1
    clock.advance(1)
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(insert(OrganisationRow).values(id="0", name="younger", created_at=clock.now()))
    assert await hubs[0].ensure_default_organisation() == made[0]
