"""API keys: what a script is with one, and what ends it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from hub_server.access.model import OnMachine, Principal
from hub_server.access.tables import ApiKeyRow
from hub_server.errors import Forbidden, NotFound, RateLimited, Unauthenticated
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.people import (
    AccountSetPassword,
    ApiKeysCreate,
    ApiKeysList,
    ApiKeysRevoke,
    UsersName,
    UsersSetPassword,
    UsersSetRole,
)
from tests.clocks import FakeClock
from tests.hub_server.access.conftest import HOME, PASSWORD, House, credentials

NEW_PASSWORD = "a-quite-new-marzipan-43"


@pytest.fixture
def admin(ada: str, organisation_id: str) -> Principal:
    return Principal(user_id=ada, username="ada", organisation_id=organisation_id, role=Role.ORG_ADMIN)


async def test_a_key_speaks_for_its_maker_with_its_own_role(house: House, admin: Principal, clock: FakeClock) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="backup", role=Role.OPERATOR, ttl_sec=3600))
    session = await house.access.session_of(made.key_text)
    assert made.key_text.startswith("jtntk_")
    assert (session.principal.user_id, session.principal.role) == (admin.user_id, Role.OPERATOR)
    assert session.principal.actor == f"user:ada+key:{made.key.id}"
    assert session.expires_at == made.key.expires_at
    listed = await house.api_keys.list(admin, ApiKeysList())
    assert [(key.name, key.last_used_at) for key in listed.keys] == [("backup", clock.now())]
    assert (await house.actions())[-1] == "api-keys:create"


async def test_only_the_hash_of_a_key_is_stored(house: House, admin: Principal, database: Database) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="backup", role=Role.OPERATOR))
    async with database.read(EVERY_ORGANISATION) as connection:
        row = (await connection.execute(select(ApiKeyRow))).one()
    assert made.key_text.split(".")[1] not in str(row)


async def test_a_key_is_at_most_its_maker(house: House, admin: Principal, organisation_id: str) -> None:
    with pytest.raises(Forbidden):
        await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.HUB_ADMIN))
    user_id = await house.add(organisation_id, "vera", Role.VIEWER)
    viewer = Principal(user_id=user_id, username="vera", organisation_id=organisation_id, role=Role.VIEWER)
    with pytest.raises(Forbidden):
        await house.api_keys.create(viewer, ApiKeysCreate(name="x", role=Role.VIEWER))


async def test_a_key_makes_no_keys(house: House, admin: Principal) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.ORG_ADMIN))
    script = (await house.access.session_of(made.key_text)).principal
    with pytest.raises(Forbidden):
        await house.api_keys.create(script, ApiKeysCreate(name="y", role=Role.VIEWER))


async def test_a_key_ends_with_its_time(house: House, admin: Principal, clock: FakeClock) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.VIEWER, ttl_sec=60))
    session = await house.access.session_of(made.key_text)
    clock.advance(60)
    with pytest.raises(Unauthenticated):
        await house.access.session_of(made.key_text)
    await house.access.note_ended([session])
    assert session.standing.is_over


async def test_what_is_no_key_is_refused(house: House, admin: Principal) -> None:
    text = (await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.VIEWER))).key_text
    for wrong in ("jtntk_", "jtntk_.", "jtntk_a.b", text[:-1], text + "é", text.replace("jtntk_", "jtntk_0")):
        with pytest.raises(Unauthenticated):
            await house.access.session_of(wrong)
    await house.access.session_of(text)


async def test_a_revoked_key_is_out_at_once_and_stays_so(house: House, admin: Principal) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.VIEWER))
    kept = await house.access.session_of(
        (await house.api_keys.create(admin, ApiKeysCreate(name="y", role=Role.VIEWER))).key_text
    )
    session = await house.access.session_of(made.key_text)
    revoked = await house.api_keys.revoke(admin, ApiKeysRevoke(key_id=made.key.id))
    assert revoked.key.revoked_at is not None
    assert (session.standing.is_over, kept.standing.is_over) == (True, False)
    with pytest.raises(Unauthenticated):
        await house.access.session_of(made.key_text)
    again = await house.api_keys.revoke(admin, ApiKeysRevoke(key_id=made.key.id))
    assert again == revoked
    assert (await house.actions()).count("api-keys:revoke") == 1


async def test_keys_of_another_organisation_are_not_found(house: House, admin: Principal) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.VIEWER))
    stranger = Principal(user_id="u", username="eve", organisation_id="elsewhere", role=Role.ORG_ADMIN)
    with pytest.raises(NotFound):
        await house.api_keys.revoke(stranger, ApiKeysRevoke(key_id=made.key.id))
    assert (await house.api_keys.list(stranger, ApiKeysList())).total == 0
    await house.access.session_of(made.key_text)


@pytest.mark.parametrize("deed", ["lock", "remove", "demote"])
async def test_a_key_ends_with_its_makers_lock_removal_or_demotion_for_good(
    house: House, admin: Principal, organisation_id: str, deed: str
) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.TECHNICIAN))
    small = await house.api_keys.create(admin, ApiKeysCreate(name="y", role=Role.VIEWER))
    session = await house.access.session_of(made.key_text)
    small_session = await house.access.session_of(small.key_text)
    machine = OnMachine(organisation_id=organisation_id)
    match deed:
        case "lock":
            await house.users.lock(machine, UsersName(user_id=admin.user_id))
            await house.users.unlock(machine, UsersName(user_id=admin.user_id))
        case "remove":
            await house.users.remove(machine, UsersName(user_id=admin.user_id))
        case _:
            for role in (Role.OPERATOR, Role.ORG_ADMIN):
                await house.users.set_role(machine, UsersSetRole(user_id=admin.user_id, role=role))
    assert session.standing.is_over
    assert small_session.standing.is_over == (deed != "demote")
    with pytest.raises(Unauthenticated):
        await house.access.session_of(made.key_text)
    if deed == "demote":
        await house.access.session_of(small.key_text)
    else:
        with pytest.raises(Unauthenticated):
            await house.access.session_of(small.key_text)


async def test_a_maker_who_was_demoted_a_moment_ago_makes_no_key(
    house: House, admin: Principal, organisation_id: str
) -> None:
    machine = OnMachine(organisation_id=organisation_id)
    await house.users.set_role(machine, UsersSetRole(user_id=admin.user_id, role=Role.VIEWER))
    with pytest.raises(Forbidden):
        await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.OPERATOR))
    assert (await house.api_keys.list(admin, ApiKeysList())).total == 0


@pytest.mark.parametrize("deed", ["own-password", "set-password", "remove-totp", "sign-out-everywhere"])
async def test_what_ends_a_persons_sign_ins_leaves_their_keys(
    house: House, admin: Principal, organisation_id: str, deed: str
) -> None:
    made = await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.TECHNICIAN))
    key = await house.access.session_of(made.key_text)
    person = await house.access.session_of((await house.access.sign_in(credentials(), HOME)).access_token)
    machine = OnMachine(organisation_id=organisation_id)
    match deed:
        case "own-password":
            change = AccountSetPassword(current=PASSWORD, new=NEW_PASSWORD)
            await house.accounts.set_password(admin, "another", change)
        case "set-password":
            await house.users.set_password(machine, UsersSetPassword(user_id=admin.user_id, password=NEW_PASSWORD))
        case "remove-totp":
            await house.users.remove_totp(machine, UsersName(user_id=admin.user_id))
        case _:
            await house.accounts.sign_out_everywhere(admin)
    assert (person.standing.is_over, key.standing.is_over) == (True, False)
    await house.access.note_ended([key])
    assert not key.standing.is_over


async def test_a_network_that_shows_bad_keys_is_slowed(house: House, admin: Principal, clock: FakeClock) -> None:
    good = (await house.api_keys.create(admin, ApiKeysCreate(name="x", role=Role.VIEWER))).key_text
    signed_in = await house.access.sign_in(credentials(), HOME)
    for number in range(10):
        with pytest.raises(Unauthenticated):
            await house.access.admit(f"{good[:-4]}{number:04}", HOME)
        clock.advance(1)
    with pytest.raises(RateLimited) as limited:
        await house.access.admit(good, HOME)
    assert limited.value.retry_after_seconds == 590
    assert (await house.access.admit(good, "203.0.113.9")).principal.api_key_id is not None
    assert (await house.access.admit(signed_in.access_token, HOME)).principal.user_id == admin.user_id
    await house.access.sign_in(credentials(), HOME)
    clock.advance(590)
    await house.access.admit(good, HOME)
