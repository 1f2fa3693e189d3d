"""One's own account: password and sign-ins."""

from __future__ import annotations

import pytest

from hub_server.access.model import OnMachine, Principal
from hub_server.errors import Forbidden, InvalidRequest, RateLimited, Unauthenticated
from protocol.enumerations import Role
from protocol.people import AccountBeginTotp, AccountSetPassword, UsersName
from tests.clocks import FakeClock
from tests.hub_server.access.conftest import HOME, PASSWORD, House, credentials

NEW_PASSWORD = "an entirely new passphrase 9"


async def test_a_new_password_ends_all_other_sign_ins(house: House, ada: str) -> None:
    own, other = [await house.access.sign_in(credentials(), HOME) for _ in range(2)]
    session, far = [await house.access.session_of(one.access_token) for one in (own, other)]
    request = AccountSetPassword(current=PASSWORD, new=NEW_PASSWORD)
    await house.accounts.set_password(session.principal, session.session_id, request)
    assert (session.standing.is_over, far.standing.is_over) == (False, True)
    await house.access.refresh(own.refresh_token, HOME)
    with pytest.raises(Unauthenticated):
        await house.access.refresh(other.refresh_token, HOME)
    with pytest.raises(Unauthenticated):
        await house.access.sign_in(credentials(), HOME)
    await house.access.sign_in(credentials(password=NEW_PASSWORD), HOME)
    assert "account:set-password" in await house.actions()


@pytest.mark.parametrize(
    ("current", "new", "path"),
    [("wrong", NEW_PASSWORD, "$.current"), (PASSWORD, "short", "$.new"), (PASSWORD, "adas-own-passw0rd", "$.new")],
)
async def test_a_wrong_or_a_weak_password_changes_nothing(
    house: House, ada: str, current: str, new: str, path: str
) -> None:
    session = await house.access.session_of((await house.access.sign_in(credentials(), HOME)).access_token)
    request = AccountSetPassword(current=current, new=new)
    with pytest.raises(InvalidRequest) as refused:
        await house.accounts.set_password(session.principal, session.session_id, request)
    assert refused.value.path == path
    await house.access.sign_in(credentials(), HOME)


async def test_guessing_ones_own_password_is_limited(house: House, clock: FakeClock, ada: str) -> None:
    session = await house.access.session_of((await house.access.sign_in(credentials(), HOME)).access_token)
    for _ in range(5):
        with pytest.raises(InvalidRequest):
            await house.accounts.begin_totp(session.principal, AccountBeginTotp(password="wrong"))
    with pytest.raises(RateLimited):
        await house.accounts.begin_totp(session.principal, AccountBeginTotp(password=PASSWORD))
    clock.advance(5)
    await house.accounts.begin_totp(session.principal, AccountBeginTotp(password=PASSWORD))


async def test_the_account_tells_of_every_sign_in_that_stands(house: House, clock: FakeClock, ada: str) -> None:
    first = await house.access.sign_in(credentials(), HOME)
    begun_at = clock.now()
    clock.advance(3600)
    second = await house.access.sign_in(credentials(), HOME)
    ended = await house.access.sign_in(credentials(), HOME)
    await house.access.sign_out(ended.refresh_token)
    clock.advance(60)
    await house.access.refresh(first.refresh_token, HOME)
    session = await house.access.session_of(second.access_token)
    account = await house.accounts.get(session.principal, session.session_id)
    assert [sign_in.is_this for sign_in in account.sign_ins] == [True, False]
    assert (account.sign_ins[1].signed_in_at, account.sign_ins[1].last_used_at) == (begun_at, clock.now())
    assert (account.username, account.role, account.totp, account.recovery_codes_left) == (
        "ada",
        Role.ORG_ADMIN,
        False,
        0,
    )
    assert [membership.role for membership in account.memberships] == [Role.ORG_ADMIN]


async def test_signing_out_everywhere_ends_every_sign_in(house: House, ada: str) -> None:
    signed_in = [await house.access.sign_in(credentials(), HOME) for _ in range(3)]
    sessions = [await house.access.session_of(one.access_token) for one in signed_in]
    await house.accounts.sign_out_everywhere(sessions[0].principal)
    assert all(session.standing.is_over for session in sessions)
    for one in signed_in:
        with pytest.raises(Unauthenticated):
            await house.access.refresh(one.refresh_token, HOME)
    assert (await house.actions())[-1] == "account:sign-out-everywhere"


async def test_who_is_in_two_organisations_chooses_one(
    house: House, organisation_id: str, database: object, ada: str, clock: FakeClock
) -> None:
    clock.advance(1)
    from_the_machine = await house.users.ensure_default_organisation()
    assert from_the_machine == organisation_id
    with pytest.raises(Unauthenticated, match="organisation"):
        await house.access.sign_in(credentials(organisation="nowhere"), HOME)
    with pytest.raises(Unauthenticated, match="password"):
        await house.access.sign_in(credentials(password="wrong-password-1", organisation="nowhere"), HOME)
    chosen = await house.access.sign_in(credentials(organisation=f"organisation {organisation_id}"), HOME)
    assert (await house.access.principal_of(chosen.access_token)).organisation_id == organisation_id


async def test_a_key_does_not_touch_its_makers_account(house: House, ada: str, organisation_id: str) -> None:
    key = Principal(user_id=ada, username="ada", organisation_id=organisation_id, role=Role.ORG_ADMIN, api_key_id="k")
    for attempt in (
        house.accounts.sign_out_everywhere(key),
        house.accounts.begin_totp(key, AccountBeginTotp(password=PASSWORD)),
        house.accounts.set_password(key, "key-k", AccountSetPassword(current=PASSWORD, new=NEW_PASSWORD)),
    ):
        with pytest.raises(Forbidden):
            await attempt
    assert (await house.accounts.get(key, "key-k")).username == "ada"


async def test_somebody_who_left_has_no_account_here(house: House, ada: str, organisation_id: str) -> None:
    principal = await house.access.principal_of((await house.access.sign_in(credentials(), HOME)).access_token)
    await house.users.remove(OnMachine(organisation_id=organisation_id), UsersName(user_id=ada))
    with pytest.raises(Unauthenticated):
        await house.accounts.get(principal, "x")
