import uuid

import msgspec
import pytest
from sqlalchemy import insert, select
from sqlmodel import col

from hub_server.access.tables import OrganisationRow
from hub_server.audit.tables import AuditRow
from hub_server.enrollment.tables import EnrollmentTokenRow
from hub_server.errors import Forbidden, NotFound
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enumerations import Role
from protocol.identity import EnrollmentToken, JoinString
from protocol.joining import TokensCreate, TokensList, TokensRevoke
from tests.clocks import FakeClock
from tests.hub_server.enrollment.conftest import Desk


async def test_the_secret_is_shown_once_and_kept_as_a_hash(desk: Desk) -> None:
    made = await desk.token()
    token = JoinString.parse(made.join_string).token
    assert token == EnrollmentToken.parse(made.token_text)
    assert token.pin == desk.authority.root_pin
    async with desk.database.read(EVERY_ORGANISATION) as connection:
        row = (await connection.execute(select(EnrollmentTokenRow))).one()
        audit = (await connection.execute(select(AuditRow).where(col(AuditRow.action) == "tokens:create"))).one()
    assert row.secret_sha256 == token.secret_sha256
    assert made.token_text not in str(row)
    assert (audit.actor, audit.target) == ("user:ada", f"token:{token.id}")
    assert made.token_text.split(".")[1] not in str(audit.detail)


async def test_tokens_are_listed_newest_first(desk: Desk, clock: FakeClock) -> None:
    made = []
    for number in range(3):
        made.append((await desk.token(TokensCreate(site=f"site {number}"))).token)
        clock.advance(1)
    page = await desk.enrollment.list_tokens(desk.principal, TokensList(limit=2))
    assert page.tokens == [made[2], made[1]]
    assert page.total == 3
    rest = await desk.enrollment.list_tokens(desk.principal, TokensList(limit=2, offset=2))
    assert rest.tokens == [made[0]]


async def test_revoking_twice_changes_nothing_more(desk: Desk, clock: FakeClock) -> None:
    made = await desk.token()
    request = TokensRevoke(token_id=made.token.id)
    first = await desk.enrollment.revoke_token(desk.principal, request)
    assert first.token.revoked_at == clock.now()
    clock.advance(5)
    assert await desk.enrollment.revoke_token(desk.principal, request) == first


async def test_another_organisation_has_no_part_in_it(desk: Desk, clock: FakeClock) -> None:
    made = await desk.token()
    other = str(uuid.uuid4())
    async with desk.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(insert(OrganisationRow).values(id=other, name=other, created_at=clock.now()))
    stranger = msgspec.structs.replace(desk.principal, organisation_id=other)
    with pytest.raises(NotFound):
        await desk.enrollment.revoke_token(stranger, TokensRevoke(token_id=made.token.id))
    page = await desk.enrollment.list_tokens(stranger, TokensList())
    assert (page.tokens, page.total) == ([], 0)


async def test_who_may_not_make_tokens_makes_none(desk: Desk) -> None:
    for role in (Role.VIEWER, Role.OPERATOR, Role.TECHNICIAN, Role.APPROVER):
        person = msgspec.structs.replace(desk.principal, role=role)
        with pytest.raises(Forbidden):
            await desk.enrollment.create_token(person, TokensCreate())
        if role is not Role.APPROVER:
            with pytest.raises(Forbidden):
                await desk.enrollment.list_tokens(person, TokensList())
        with pytest.raises(Forbidden):
            await desk.enrollment.revoke_token(person, TokensRevoke(token_id="x"))
    assert (await desk.enrollment.list_tokens(desk.principal, TokensList())).total == 0
