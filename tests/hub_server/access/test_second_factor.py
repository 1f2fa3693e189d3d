"""TOTP, recovery codes, and what people may do without them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, permissions_of
from hub_server.access.second_factor import digest_of, is_code, new_recovery_codes, step_of
from hub_server.access.service import SignedIn
from hub_server.access.tables import RecoveryCodeRow, UserRow
from hub_server.errors import Conflict, Forbidden, InvalidRequest, OtpRequired, RateLimited, Unauthenticated
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.people import (
    AccountBeginTotp,
    AccountConfirmTotp,
    AccountNewRecoveryCodes,
    AccountRemoveTotp,
)
from tests.clocks import FakeClock
from tests.hub_server.access.conftest import HOME, PASSWORD, House, credentials, house_on

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NOON = datetime(2026, 5, 4, 12, 0, 7, tzinfo=UTC)
STEP = int(NOON.timestamp()) // 30


class Phone:
    """An authenticator app."""

    def __init__(self, uri: str, clock: FakeClock) -> None:
        self._totp = pyotp.TOTP(parse_qs(urlsplit(uri).query)["secret"][0])
        self._clock = clock

    def code(self, *, steps: int = 0) -> str:
        return self._totp.at(self._clock.now(), counter_offset=steps)


@pytest.fixture
def strict(database: Database, clock: FakeClock, jwt_key: Ed25519PrivateKey) -> House:
    """A hub that demands a second factor of whoever may run commands."""
    return house_on(database, clock, jwt_key, demands_second_factor=True)


async def set_up(house: House, clock: FakeClock, signed_in: SignedIn) -> tuple[Phone, list[str]]:
    """Set up TOTP in this sign-in; return the phone and the recovery codes. The next time step has begun."""
    session = await house.access.session_of(signed_in.access_token)
    begun = await house.accounts.begin_totp(session.principal, AccountBeginTotp(password=PASSWORD))
    phone = Phone(begun.uri, clock)
    request = AccountConfirmTotp(code=phone.code())
    confirmed = await house.accounts.confirm_totp(session.principal, session.session_id, request)
    clock.advance(30)
    return phone, confirmed.recovery_codes


@pytest.mark.parametrize(("steps", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_code_is_good_one_step_around_its_time(steps: int, good: bool) -> None:
    code = pyotp.TOTP(SECRET).at(NOON, counter_offset=steps)
    assert step_of(SECRET, code, NOON, 0) == (STEP + steps if good else None)


def test_a_code_is_good_once_and_so_are_those_before_it() -> None:
    codes = [pyotp.TOTP(SECRET).at(NOON, counter_offset=steps) for steps in (-1, 0, 1)]
    assert [step_of(SECRET, code, NOON, STEP) for code in codes] == [None, None, STEP + 1]


def test_spaces_in_a_code_do_not_count_and_anything_else_is_a_recovery_code() -> None:
    assert is_code("123 456")
    assert not any(is_code(text) for text in ("", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "abcde-fghij-kmnp"))


def test_recovery_codes_fit_the_sign_in_and_are_read_without_care() -> None:
    codes = new_recovery_codes()
    assert len(set(codes)) == 10
    assert {len(code) for code in codes} == {16}
    assert digest_of(codes[0]) == digest_of(codes[0].upper().replace("-", " "))


async def test_a_second_factor_is_set_up_and_asked_for_from_then_on(
    house: House, clock: FakeClock, ada: str, database: Database
) -> None:
    first = await house.access.sign_in(credentials(), HOME)
    phone, codes = await set_up(house, clock, first)
    with pytest.raises(OtpRequired):
        await house.access.sign_in(credentials(), HOME)
    with pytest.raises(OtpRequired):
        await house.access.sign_in(credentials(otp=""), HOME)
    with pytest.raises(Unauthenticated, match="user name or the password"):
        await house.access.sign_in(credentials(password="wrong-password-1"), HOME)
    again = await house.access.sign_in(credentials(otp=phone.code()), HOME)
    assert (await house.access.principal_of(again.access_token)).user_id == ada
    async with database.read(EVERY_ORGANISATION) as connection:
        stored = (await connection.execute(select(UserRow))).one()
        kept = (await connection.execute(select(RecoveryCodeRow))).all()
    assert phone._totp.secret.encode() not in stored.totp_sealed
    assert not any(code.replace("-", "").encode() in row.code_sha256 for row in kept for code in codes)
    assert (await house.actions())[-3:] == ["account:begin-totp", "account:confirm-totp", "auth:sign-in"]


async def test_nothing_counts_before_it_is_confirmed(house: House, ada: str) -> None:
    session = await house.access.session_of((await house.access.sign_in(credentials(), HOME)).access_token)
    begun = await house.accounts.begin_totp(session.principal, AccountBeginTotp(password=PASSWORD))
    with pytest.raises(InvalidRequest, match="code is wrong"):
        await house.accounts.confirm_totp(session.principal, session.session_id, AccountConfirmTotp(code="000000"))
    await house.access.sign_in(credentials(), HOME)
    assert not (await house.accounts.get(session.principal, session.session_id)).totp
    again = await house.accounts.begin_totp(session.principal, AccountBeginTotp(password=PASSWORD))
    assert again.secret != begun.secret


async def test_a_code_signs_in_once(house: House, clock: FakeClock, ada: str) -> None:
    phone, _ = await set_up(house, clock, await house.access.sign_in(credentials(), HOME))
    code = phone.code()
    outcomes = await asyncio.gather(
        *(house.access.sign_in(credentials(otp=code), HOME) for _ in range(4)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["SignedIn"] + ["Unauthenticated"] * 3


async def test_wrong_codes_are_limited_and_the_right_one_waits_too(house: House, clock: FakeClock, ada: str) -> None:
    phone, codes = await set_up(house, clock, await house.access.sign_in(credentials(), HOME))
    for number in range(5):
        with pytest.raises(Unauthenticated, match="code"):
            await house.access.sign_in(credentials(otp=f"00000{number}"), f"192.0.2.{number}")
    for otp in (phone.code(), codes[0]):
        with pytest.raises(RateLimited) as limited:
            await house.access.sign_in(credentials(otp=otp), "192.0.2.9")
        assert limited.value.retry_after_seconds == 720
    clock.advance(720)
    await house.access.sign_in(credentials(otp=phone.code()), HOME)


async def test_a_recovery_code_signs_in_once(house: House, clock: FakeClock, ada: str) -> None:
    _, codes = await set_up(house, clock, await house.access.sign_in(credentials(), HOME))
    assert len(codes) == 10
    signed_in = await house.access.sign_in(credentials(otp=codes[3].upper()), HOME)
    with pytest.raises(Unauthenticated):
        await house.access.sign_in(credentials(otp=codes[3]), HOME)
    session = await house.access.session_of(signed_in.access_token)
    assert (await house.accounts.get(session.principal, session.session_id)).recovery_codes_left == 9


async def test_new_recovery_codes_void_the_old(house: House, clock: FakeClock, ada: str) -> None:
    signed_in = await house.access.sign_in(credentials(), HOME)
    phone, old = await set_up(house, clock, signed_in)
    principal = await house.access.principal_of(signed_in.access_token)
    request = AccountNewRecoveryCodes(password=PASSWORD, code=phone.code())
    new = (await house.accounts.new_recovery_codes(principal, request)).recovery_codes
    with pytest.raises(Unauthenticated):
        await house.access.sign_in(credentials(otp=old[0]), HOME)
    await house.access.sign_in(credentials(otp=new[0]), HOME)


async def test_a_second_factor_is_removed_with_password_and_code_and_all_are_signed_out(
    house: House, clock: FakeClock, ada: str
) -> None:
    signed_in = await house.access.sign_in(credentials(), HOME)
    phone, codes = await set_up(house, clock, signed_in)
    session = await house.access.session_of(signed_in.access_token)
    with pytest.raises(Conflict):
        await house.accounts.begin_totp(session.principal, AccountBeginTotp(password=PASSWORD))
    for password, code in (("wrong", phone.code()), (PASSWORD, "000000")):
        with pytest.raises(InvalidRequest):
            await house.accounts.remove_totp(session.principal, AccountRemoveTotp(password=password, code=code))
    await house.access.refresh(signed_in.refresh_token, HOME)
    await house.accounts.remove_totp(session.principal, AccountRemoveTotp(password=PASSWORD, code=codes[0]))
    assert session.standing.is_over
    with pytest.raises(Unauthenticated):
        await house.access.refresh(signed_in.refresh_token, HOME)
    await house.access.sign_in(credentials(), HOME)


async def test_after_a_removal_another_is_set_up_in_the_same_half_minute(
    house: House, clock: FakeClock, ada: str
) -> None:
    signed_in = await house.access.sign_in(credentials(), HOME)
    phone, _ = await set_up(house, clock, signed_in)
    principal = await house.access.principal_of(signed_in.access_token)
    await house.accounts.remove_totp(principal, AccountRemoveTotp(password=PASSWORD, code=phone.code()))
    await set_up(house, clock, await house.access.sign_in(credentials(), HOME))


@pytest.mark.parametrize("role", Role)
async def test_who_may_run_commands_needs_a_second_factor_where_the_hub_demands_it(
    strict: House, organisation_id: str, role: Role
) -> None:
    await strict.add(organisation_id, "grace", role)
    signed_in = await strict.access.sign_in(credentials("grace"), HOME)
    principal = await strict.access.principal_of(signed_in.access_token)
    is_limited = role in {Role.TECHNICIAN, Role.ORG_ADMIN}
    assert (signed_in.second_factor_needed, principal.is_limited) == (is_limited, is_limited)
    if is_limited:
        assert permissions_of(principal) == {Permission.SELF}
        for permission in set(Permission) - {Permission.SELF}:
            with pytest.raises(Forbidden, match="second factor"):
                authorize(principal, permission)


async def test_a_limited_sign_in_becomes_whole_by_a_refresh_and_no_new_password(
    strict: House, clock: FakeClock, ada: str
) -> None:
    signed_in = await strict.access.sign_in(credentials(), HOME)
    elsewhere = await strict.access.sign_in(credentials(), HOME)
    assert (await strict.access.principal_of(signed_in.access_token)).is_limited
    await set_up(strict, clock, signed_in)
    refreshed = await strict.access.refresh(signed_in.refresh_token, HOME)
    assert not refreshed.second_factor_needed
    for token in (signed_in.access_token, refreshed.access_token):
        assert not (await strict.access.principal_of(token)).is_limited
    later = await strict.access.refresh(refreshed.refresh_token, HOME)
    assert not (await strict.access.principal_of(later.access_token)).is_limited
    assert (await strict.access.principal_of(elsewhere.access_token)).is_limited


async def test_a_sign_in_with_a_code_is_whole(strict: House, clock: FakeClock, ada: str) -> None:
    phone, _ = await set_up(strict, clock, await strict.access.sign_in(credentials(), HOME))
    signed_in = await strict.access.sign_in(credentials(otp=phone.code()), HOME)
    assert not signed_in.second_factor_needed
    assert not (await strict.access.principal_of(signed_in.access_token)).is_limited
