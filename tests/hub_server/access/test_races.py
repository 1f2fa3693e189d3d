"""Sign-ins that begin or go on while somebody ends them: whoever comes first, nothing is left; on both databases."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from hub_server.access.model import OnMachine
from hub_server.access.service import AccessService, SignedIn
from hub_server.errors import Forbidden, Unauthenticated
from protocol.enumerations import Role
from protocol.people import AccountSetPassword, ApiKeysCreate, ApiKeysCreateReply, UsersName, UsersSetPassword
from tests.clocks import FakeClock
from tests.hub_server.access.conftest import HOME, PASSWORD, House, credentials

NEW_PASSWORD = "a-quite-new-marzipan-43"


class Held:
    """Holds a sign-in between the proof of its password and its effect."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_proved, self.may_go_on = asyncio.Event(), asyncio.Event()
        self._matches = house.credentials.passwords.matches
        monkeypatch.setattr(house.credentials.passwords, "matches", self._held)

    async def _held(self, stored_hash: str | None, password: str) -> bool:
        matches = await self._matches(stored_hash, password)
        self.is_proved.set()
        await self.may_go_on.wait()
        return matches


@pytest.mark.parametrize("end", ["password", "lock"])
async def test_what_ends_a_persons_sign_ins_ends_the_one_under_way_too(
    house: House, organisation_id: str, ada: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    machine, held = OnMachine(organisation_id=organisation_id), Held(house, monkeypatch)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        signing_in = tasks.create_task(_refused_sign_in(house.access))
        await held.is_proved.wait()
        if end == "password":
            await house.users.set_password(machine, UsersSetPassword(user_id=ada, password=NEW_PASSWORD))
        else:
            await house.users.lock(machine, UsersName(user_id=ada))
        held.may_go_on.set()
    assert signing_in.result()
    assert "auth:sign-in" not in await house.actions()


async def _refused_sign_in(access: AccessService) -> bool:
    try:
        await access.sign_in(credentials(), HOME)
    except Unauthenticated:
        return True
    return False


@pytest.mark.parametrize("end", ["everywhere", "sign-out", "own-password", "remove"])
async def test_a_refresh_that_races_the_end_of_its_sign_in_leaves_none(
    house: House, clock: FakeClock, organisation_id: str, end: str
) -> None:
    for round_ in range(10):
        clock.advance(1)
        user_id = await house.add(organisation_id, f"person-{round_}", Role.VIEWER)
        name, access = f"person-{round_}", house.access
        first = await access.sign_in(credentials(name), HOME)
        principal = await access.principal_of(first.access_token)
        newest = await access.refresh(first.refresh_token, HOME)
        ending: Coroutine[Any, Any, object]
        match end:
            case "everywhere":
                ending = house.accounts.sign_out_everywhere(principal)
            case "sign-out":
                ending = access.sign_out(first.refresh_token)
            case "own-password":
                request = AccountSetPassword(current=PASSWORD, new=NEW_PASSWORD)
                ending = house.accounts.set_password(principal, "another", request)
            case _:
                ending = house.users.remove(OnMachine(organisation_id=organisation_id), UsersName(user_id=user_id))
        async with asyncio.timeout(30):
            outcome, ended = await asyncio.gather(
                access.refresh(newest.refresh_token, HOME), ending, return_exceptions=True
            )
        assert not isinstance(ended, BaseException), ended
        if isinstance(outcome, SignedIn):
            with pytest.raises(Unauthenticated):
                await access.principal_of(outcome.access_token)
            with pytest.raises(Unauthenticated):
                await access.refresh(outcome.refresh_token, HOME)
        else:
            assert isinstance(outcome, Unauthenticated), outcome


async def test_a_key_made_while_its_maker_is_locked_does_not_outlive_the_lock(
    house: House, clock: FakeClock, organisation_id: str, ada: str
) -> None:
    machine = OnMachine(organisation_id=organisation_id)
    for round_ in range(10):
        clock.advance(1)
        user_id = await house.add(organisation_id, f"person-{round_}", Role.ORG_ADMIN)
        signed_in = await house.access.sign_in(credentials(f"person-{round_}"), HOME)
        maker = await house.access.principal_of(signed_in.access_token)
        async with asyncio.timeout(30):
            made, locked = await asyncio.gather(
                house.api_keys.create(maker, ApiKeysCreate(name="report", role=Role.VIEWER, ttl_sec=86400)),
                house.users.lock(machine, UsersName(user_id=user_id)),
                return_exceptions=True,
            )
        assert not isinstance(locked, BaseException), locked
        await house.users.unlock(machine, UsersName(user_id=user_id))
        if isinstance(made, ApiKeysCreateReply):
            with pytest.raises(Unauthenticated):
                await house.access.session_of(made.key_text)
        else:
            assert isinstance(made, Forbidden), made
