import asyncio
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select, update
from sqlmodel import col

from hub_server.access.service import AccessService
from hub_server.access.tables import MembershipRow, RefreshTokenRow, UserRow
from hub_server.access.tokens import AccessTokens, RefreshToken
from hub_server.errors import RateLimited, Unauthenticated
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from tests.clocks import FakeClock
from tests.hub_server.access.conftest import HOME, PASSWORD, House, credentials


async def test_a_person_signs_in_and_is_known(
    house: House, access: AccessService, clock: FakeClock, ada: str, organisation_id: str
) -> None:
    signed_in = await access.sign_in(credentials(" ADA "), HOME)
    session = await access.session_of(signed_in.access_token)
    assert (session.principal.user_id, session.principal.username) == (ada, "ada")
    assert (session.principal.organisation_id, session.principal.role) == (organisation_id, Role.ORG_ADMIN)
    assert session.expires_at == clock.now() + timedelta(seconds=600)
    assert signed_in.expires_in_seconds == 600
    assert signed_in.refresh_expires_at == clock.now() + timedelta(days=14)
    assert await house.actions() == ["users:create", "auth:sign-in"]


async def test_an_access_token_ends_after_ten_minutes(access: AccessService, clock: FakeClock, ada: str) -> None:
    signed_in = await access.sign_in(credentials(), HOME)
    clock.advance(599)
    assert (await access.principal_of(signed_in.access_token)).user_id == ada
    clock.advance(1)
    with pytest.raises(Unauthenticated, match="expired"):
        await access.principal_of(signed_in.access_token)


async def test_wrong_credentials_are_refused_alike(access: AccessService, ada: str) -> None:
    messages = set()
    for wrong in (credentials(password="wrong-password-1"), credentials("eve"), credentials("eve", "x")):
        with pytest.raises(Unauthenticated) as refused:
            await access.sign_in(wrong, HOME)
        messages.add(refused.value.message)
    assert len(messages) == 1


async def test_only_a_hash_of_the_secrets_is_stored(access: AccessService, database: Database, ada: str) -> None:
    signed_in = await access.sign_in(credentials(), HOME)
    async with database.read(EVERY_ORGANISATION) as connection:
        user = (await connection.execute(select(UserRow))).one()
        token = (await connection.execute(select(RefreshTokenRow))).one()
    assert user.password_hash.startswith("$argon2id$")
    assert PASSWORD not in str(user)
    assert signed_in.refresh_token.split(".")[1] not in str(token)


async def test_a_refresh_rotates_and_continues_the_sign_in(access: AccessService, clock: FakeClock, ada: str) -> None:
    first = await access.sign_in(credentials(), HOME)
    clock.advance(3600)
    second = await access.refresh(first.refresh_token, HOME)
    assert second.refresh_token != first.refresh_token
    assert (await access.principal_of(second.access_token)).user_id == ada
    third = await access.refresh(second.refresh_token, HOME)
    sessions = [await access.session_of(signed_in.access_token) for signed_in in (second, third)]
    assert sessions[0].session_id == sessions[1].session_id


@pytest.mark.parametrize("reused", ["late", "after its successor"])
async def test_a_burnt_refresh_token_ends_the_whole_sign_in(
    house: House, access: AccessService, clock: FakeClock, ada: str, reused: str
) -> None:
    stolen = await access.sign_in(credentials(), HOME)
    elsewhere = await access.sign_in(credentials(), HOME)
    owner = await access.refresh(stolen.refresh_token, HOME)
    if reused == "late":
        clock.advance(30.001)
    else:
        clock.advance(1)
        owner = await access.refresh(owner.refresh_token, HOME)
    for token in (stolen.refresh_token, owner.refresh_token):
        with pytest.raises(Unauthenticated):
            await access.refresh(token, HOME)
    with pytest.raises(Unauthenticated):
        await access.principal_of(owner.access_token)
    assert (await access.principal_of(elsewhere.access_token)).user_id == ada
    assert (await house.actions())[-1] == "auth:refresh-reused"


async def test_a_refresh_whose_answer_was_lost_counts_once_more(
    house: House, access: AccessService, clock: FakeClock, ada: str
) -> None:
    first = await access.sign_in(credentials(), HOME)
    session = await access.session_of(first.access_token)
    clock.advance(60)
    newest = await access.refresh(first.refresh_token, HOME)
    for seconds in (10, 20):  # in all 30 seconds after the first use
        clock.advance(seconds)
        newest = await access.refresh(first.refresh_token, HOME)
    assert (await access.session_of(newest.access_token)).session_id == session.session_id
    clock.advance(3600)
    newest = await access.refresh(newest.refresh_token, HOME)
    clock.advance(30)
    newest = await access.refresh(newest.refresh_token, HOME)
    assert not session.standing.is_over
    assert "auth:refresh-reused" not in await house.actions()


async def test_a_thief_and_the_owner_collide_though_a_lost_answer_is_forgiven(
    house: House, access: AccessService, clock: FakeClock, ada: str
) -> None:
    stolen = await access.sign_in(credentials(), HOME)
    owner = await access.refresh(stolen.refresh_token, HOME)
    clock.advance(5)
    thief = await access.refresh(stolen.refresh_token, HOME)
    session = await access.session_of(thief.access_token)
    clock.advance(600)
    for token in (owner.refresh_token, thief.refresh_token):
        with pytest.raises(Unauthenticated):
            await access.refresh(token, HOME)
    assert session.standing.is_over
    assert (await house.actions())[-1] == "auth:refresh-reused"


async def test_of_racing_refreshes_one_stays_good(access: AccessService, database: Database, ada: str) -> None:
    signed_in = await access.sign_in(credentials(), HOME)
    async with asyncio.timeout(30):
        renewed = await asyncio.gather(*(access.refresh(signed_in.refresh_token, HOME) for _ in range(8)))
    async with database.read(EVERY_ORGANISATION) as connection:
        unspent = select(col(RefreshTokenRow.id)).where(
            col(RefreshTokenRow.used_at).is_(None), col(RefreshTokenRow.revoked_at).is_(None)
        )
        (good_id,) = await connection.scalars(unspent)
    good = {one.refresh_token for one in renewed if RefreshToken.parse(one.refresh_token).id == good_id}
    assert len(good) == 1
    another = next(one.refresh_token for one in renewed if one.refresh_token not in good)
    for token in (another, *good):
        with pytest.raises(Unauthenticated):
            await access.refresh(token, HOME)


async def test_signing_out_by_a_token_that_was_given_in_vain_ends_the_sign_in(
    access: AccessService, clock: FakeClock, ada: str
) -> None:
    first = await access.sign_in(credentials(), HOME)
    lost = await access.refresh(first.refresh_token, HOME)
    newest = await access.refresh(first.refresh_token, HOME)
    await access.sign_out(lost.refresh_token)
    with pytest.raises(Unauthenticated):
        await access.principal_of(newest.access_token)


async def test_a_refresh_token_ends_after_fourteen_days(access: AccessService, clock: FakeClock, ada: str) -> None:
    signed_in = await access.sign_in(credentials(), HOME)
    clock.advance(14 * 86400)
    with pytest.raises(Unauthenticated):
        await access.refresh(signed_in.refresh_token, HOME)


async def test_signing_out_ends_access_at_once(house: House, access: AccessService, ada: str) -> None:
    signed_in = await access.sign_in(credentials(), HOME)
    renewed = await access.refresh(signed_in.refresh_token, HOME)
    await access.sign_out(renewed.refresh_token)
    await access.sign_out(renewed.refresh_token)
    with pytest.raises(Unauthenticated):
        await access.principal_of(renewed.access_token)
    with pytest.raises(Unauthenticated):
        await access.refresh(renewed.refresh_token, HOME)
    assert (await house.actions()).count("auth:sign-out") == 1


async def test_what_is_no_refresh_token_is_refused(access: AccessService, ada: str) -> None:
    good = (await access.sign_in(credentials(), HOME)).refresh_token
    for text in ("", "x", "jtntr_.", "jtntr_abc.def", good[:-1], f"{good}é", good.replace("jtntr", "jtnte")):
        with pytest.raises(Unauthenticated):
            await access.refresh(text, HOME)
    await access.refresh(good, HOME)


async def test_an_address_that_guesses_at_refresh_tokens_is_slowed(
    access: AccessService, clock: FakeClock, ada: str
) -> None:
    good = (await access.sign_in(credentials(), HOME)).refresh_token
    for _ in range(60):
        with pytest.raises(Unauthenticated):
            await access.refresh("jtntr_abc.def", HOME)
        clock.advance(1)
    with pytest.raises(RateLimited) as limited:
        await access.refresh(good, HOME)
    assert limited.value.retry_after_seconds == 540
    await access.refresh(good, "203.0.113.9")


async def test_refreshes_at_once_are_bounded_and_come_back(access: AccessService, clock: FakeClock, ada: str) -> None:
    token = (await access.sign_in(credentials(), HOME)).refresh_token
    for _ in range(20):
        token = (await access.refresh(token, HOME)).refresh_token
    with pytest.raises(RateLimited):
        await access.refresh(token, HOME)
    clock.advance(1)
    await access.refresh(token, HOME)


async def test_a_locked_person_is_out(access: AccessService, database: Database, ada: str, clock: FakeClock) -> None:
    signed_in = await access.sign_in(credentials(), HOME)
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(update(UserRow).values(locked_at=clock.now()))
    for attempt in (
        access.principal_of(signed_in.access_token),
        access.refresh(signed_in.refresh_token, HOME),
        access.sign_in(credentials(), HOME),
    ):
        with pytest.raises(Unauthenticated):
            await attempt


async def test_a_changed_role_ends_older_tokens(access: AccessService, database: Database, ada: str) -> None:
    signed_in = await access.sign_in(credentials(), HOME)
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(update(MembershipRow).values(role=Role.VIEWER.value))
    with pytest.raises(Unauthenticated):
        await access.principal_of(signed_in.access_token)
    renewed = await access.refresh(signed_in.refresh_token, HOME)
    assert (await access.principal_of(renewed.access_token)).role is Role.VIEWER


async def test_a_token_of_another_key_is_refused(access: AccessService, clock: FakeClock, ada: str) -> None:
    session = await access.session_of((await access.sign_in(credentials(), HOME)).access_token)
    forger = AccessTokens(Ed25519PrivateKey.generate(), clock, 600)
    forged = forger.issue(
        user_id=ada,
        organisation_id=session.principal.organisation_id,
        role=Role.ORG_ADMIN,
        session_id=session.session_id,
    )
    with pytest.raises(Unauthenticated):
        await access.principal_of(forged)


async def test_an_address_that_guesses_is_slowed(access: AccessService, clock: FakeClock, ada: str) -> None:
    for number in range(5):
        with pytest.raises(Unauthenticated):
            await access.sign_in(credentials(f"guess{number}"), HOME)
    with pytest.raises(RateLimited) as limited:
        await access.sign_in(credentials(), HOME)
    assert limited.value.retry_after_seconds == 1
    await access.sign_in(credentials(), "203.0.113.9")
    clock.advance(1)
    await access.sign_in(credentials(), HOME)


async def test_a_name_that_is_guessed_at_from_everywhere_is_slowed(
    access: AccessService, clock: FakeClock, ada: str
) -> None:
    for number in range(100):
        with pytest.raises(Unauthenticated):
            await access.sign_in(credentials(password="wrong-password-1"), f"192.0.2.{number // 10}")
        clock.advance(1)
    with pytest.raises(RateLimited) as limited:
        await access.sign_in(credentials(), HOME)
    assert limited.value.retry_after_seconds == 500
    clock.advance(500)
    await access.sign_in(credentials(), HOME)


async def test_a_stranger_with_nine_addresses_locks_nobody_out(
    access: AccessService, clock: FakeClock, ada: str
) -> None:
    for number in range(9 * 10):
        with pytest.raises(Unauthenticated):
            await access.sign_in(credentials(password="wrong-password-1"), f"192.0.2.{number % 9}")
        clock.advance(0.2)
    with pytest.raises(RateLimited, match="too many wrong attempts"):
        await access.sign_in(credentials(), "192.0.2.0")
    await access.sign_in(credentials(), HOME)


async def test_wrong_passwords_count_by_name_and_network(house: House, clock: FakeClock) -> None:
    for _ in range(10):
        house.credentials.spend_attempt("ada", HOME)
        house.credentials.note_wrong("ada", HOME)
        clock.advance(1)
    with pytest.raises(RateLimited) as limited:
        house.credentials.spend_attempt("ada", HOME)
    assert limited.value.retry_after_seconds == 590
    house.credentials.spend_attempt("ada", "203.0.113.9")
    house.credentials.spend_attempt("bob", HOME)


async def test_signing_in_often_is_no_guessing(access: AccessService, ada: str) -> None:
    for _ in range(12):
        await access.sign_in(credentials(), HOME)


async def test_expired_refresh_tokens_are_swept_away_at_the_next_sign_in(
    access: AccessService, database: Database, clock: FakeClock, ada: str
) -> None:
    await access.sign_in(credentials(), HOME)
    clock.advance(15 * 86400)
    await access.sign_in(credentials(), HOME)
    async with database.read(EVERY_ORGANISATION) as connection:
        assert await connection.scalar(select(func.count()).select_from(RefreshTokenRow)) == 1
