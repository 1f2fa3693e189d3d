"""Organisation keys: making them, and registering machines with them (seed 004, "Register Agent")."""

import asyncio

import msgspec
import pytest
from sqlalchemy import select
from sqlmodel import col

from hub_server.audit.tables import AuditRow
from hub_server.enrollment.keys import OrganisationKey
from hub_server.enrollment.tables import OrganisationKeyRow
from hub_server.errors import Forbidden, InvalidRequest, KeyInUse, NotFound, QuotaReached, RateLimited, TokenRefused
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enrollment import RegisterReply, RegisterRequest
from protocol.enumerations import Role
from protocol.joining import (
    OrganisationKeysCreate,
    OrganisationKeysCreateReply,
    OrganisationKeysList,
    OrganisationKeysRevoke,
)
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock
from tests.hub_server.enrollment.conftest import HOME, Desk, registration_of, request_of

MAKE = OrganisationKeysCreate(name="provisioning", site="berlin", tags=["web", "web", "a"], ttl_sec=3600)


async def made(desk: Desk) -> OrganisationKeysCreateReply:
    return await desk.enrollment.create_key(desk.principal, MAKE)


async def register(desk: Desk, key_text: str, request: RegisterRequest, address: str = HOME) -> RegisterReply:
    key = await desk.enrollment.key_of(key_text, address)
    return await desk.enrollment.register(key, request, address)


async def refused(desk: Desk, key_text: str, said: str) -> None:
    before = await desk.counts()
    with pytest.raises(TokenRefused, match=said):
        await desk.enrollment.key_of(key_text, HOME)
    assert await desk.counts() == before


async def test_a_machine_registers_with_what_the_key_says(desk: Desk, clock: FakeClock) -> None:
    made_key = await made(desk)
    clock.advance(60)
    reply = await register(desk, made_key.key_text, registration_of())
    assert reply.certificate_pem.count("BEGIN CERTIFICATE") == 2
    assert reply.ca_bundle_pem == desk.authority.ca_bundle_pem
    assert reply.trust == desk.authority.trust
    assert reply.websocket_url == "wss://hub.example:3001/ws/agents"
    async with desk.database.read(EVERY_ORGANISATION) as connection:
        agent = (await connection.execute(select(AgentRow))).one()
    assert (agent.id, agent.hostname, agent.os_type, agent.os_version, agent.ip_addresses) == (
        reply.id,
        "web-01",
        "linux",
        "Ubuntu 22.04",
        ["192.168.1.100"],
    )
    assert (agent.site, agent.tags, agent.organisation_id) == ("berlin", ["web", "a"], desk.principal.organisation_id)
    (key,) = (await desk.enrollment.list_keys(desk.principal, OrganisationKeysList())).keys
    assert (key.used, key.last_used_at) == (1, clock.now())
    assert (f"organisation-key:{key.id}", "agents:register", f"agent:{reply.id}") in await desk.audited()


async def test_the_same_machine_within_ten_minutes_is_the_same_agent(desk: Desk, clock: FakeClock) -> None:
    key, request = (await made(desk)).key_text, registration_of()
    first = await register(desk, key, request)
    clock.advance(600)
    assert await register(desk, key, request) == first
    clock.advance(1)
    with pytest.raises(KeyInUse):
        await register(desk, key, request)
    counts = await desk.counts()
    assert (counts["agents"], counts["certificates"]) == (1, 1)
    assert (await desk.enrollment.list_keys(desk.principal, OrganisationKeysList())).keys[0].used == 1


async def test_machines_that_register_at_once_are_one_agent_a_key(desk: Desk) -> None:
    key, requests = (await made(desk)).key_text, [registration_of() for _ in range(4)]
    replies = await asyncio.gather(*(register(desk, key, request) for request in requests * 5))
    assert len({reply.id for reply in replies}) == 4
    assert len({reply.certificate_pem for reply in replies}) == 4
    counts = await desk.counts()
    assert (counts["agents"], counts["certificates"]) == (4, 4)


async def test_a_revoked_agent_does_not_come_back_by_asking_again(desk: Desk, organisation_id: str) -> None:
    key, request = (await made(desk)).key_text, registration_of()
    reply = await register(desk, key, request)
    async with desk.database.write(EVERY_ORGANISATION) as connection:
        await desk.certificates.revoke_agent(connection, organisation_id, reply.id)
    with pytest.raises(KeyInUse):
        await register(desk, key, request)


async def test_a_wrong_csr_is_named_as_the_body_has_it(desk: Desk) -> None:
    key = (await made(desk)).key_text
    with pytest.raises(InvalidRequest, match="csrPem holds no certificate request") as error:
        await register(desk, key, registration_of("no csr"))
    assert error.value.path == "$.csrPem"


async def test_an_organisation_that_is_full_registers_nobody(desk: Desk) -> None:
    key = (await made(desk)).key_text
    await desk.bound_agents(1)
    await register(desk, key, registration_of())
    with pytest.raises(QuotaReached):
        await register(desk, key, registration_of())
    assert (await desk.counts())["agents"] == 1


async def test_keys_that_are_no_good_say_why(desk: Desk, clock: FakeClock) -> None:
    good = OrganisationKey.parse((await made(desk)).key_text)
    await refused(desk, "", "not an organisation key")
    await refused(desk, "itsk_x", "not an organisation key")
    await refused(desk, OrganisationKey(good.id, bytes(32)).text, "unknown here")
    await refused(desk, OrganisationKey("unknown1", good.secret).text, "unknown here")
    clock.advance(3600)
    await refused(desk, good.text, "expired at 2026-11-22 13:00 UTC")
    clock.advance(600)
    second = await made(desk)
    await desk.enrollment.revoke_key(desk.principal, OrganisationKeysRevoke(key_id=second.key.id))
    await refused(desk, second.key_text, "revoked")


async def test_a_key_that_is_revoked_between_header_and_body_registers_nobody(desk: Desk) -> None:
    made_key = await made(desk)
    proven = await desk.enrollment.key_of(made_key.key_text, HOME)
    await desk.enrollment.revoke_key(desk.principal, OrganisationKeysRevoke(key_id=made_key.key.id))
    with pytest.raises(TokenRefused, match="revoked"):
        await desk.enrollment.register(proven, registration_of(), HOME)
    assert (await desk.counts())["agents"] == 0


async def test_whoever_guesses_is_slowed_and_then_shut_out_of_every_way_in(desk: Desk, clock: FakeClock) -> None:
    key = (await made(desk)).key_text
    for _ in range(5):
        await refused(desk, OrganisationKey.generate().text, "unknown here")
    with pytest.raises(RateLimited) as slowed:
        await desk.enrollment.key_of(key, HOME)
    assert slowed.value.retry_after_seconds == 1
    for _ in range(5):
        clock.advance(1)
        await refused(desk, "guess", "not an organisation key")
    clock.advance(5)
    with pytest.raises(RateLimited) as shut_out:
        await desk.enrollment.key_of(key, HOME)
    assert shut_out.value.retry_after_seconds == 590
    token = await desk.token()
    with pytest.raises(RateLimited):
        await desk.enrollment.enroll(request_of(token.token_text), HOME)
    await register(desk, key, registration_of(), "203.0.113.9")


async def test_the_secret_is_shown_once_and_kept_as_a_hash(desk: Desk) -> None:
    made_key = await made(desk)
    secret = OrganisationKey.parse(made_key.key_text)
    assert made_key.key_text.startswith(f"itsk_{made_key.key.id}.")
    assert made_key.key.tags == ["web", "a"]
    async with desk.database.read(EVERY_ORGANISATION) as connection:
        row = (await connection.execute(select(OrganisationKeyRow))).one()
        audit = (
            await connection.execute(select(AuditRow).where(col(AuditRow.action) == "organisation-keys:create"))
        ).one()
    assert row.secret_sha256 == secret.secret_sha256
    hidden = made_key.key_text.split(".")[1]
    assert hidden not in f"{row}{audit}{secret!r}"
    assert (audit.actor, audit.target) == ("user:ada", f"organisation-key:{secret.id}")


async def test_keys_are_listed_newest_first(desk: Desk, clock: FakeClock) -> None:
    keys = []
    for _ in range(3):
        keys.append((await made(desk)).key)
        clock.advance(1)
    page = await desk.enrollment.list_keys(desk.principal, OrganisationKeysList(limit=2))
    assert (page.keys, page.total) == ([keys[2], keys[1]], 3)
    rest = await desk.enrollment.list_keys(desk.principal, OrganisationKeysList(limit=2, offset=2))
    assert rest.keys == [keys[0]]


async def test_revoking_twice_changes_nothing_more(desk: Desk, clock: FakeClock) -> None:
    request = OrganisationKeysRevoke(key_id=(await made(desk)).key.id)
    first = await desk.enrollment.revoke_key(desk.principal, request)
    assert first.key.revoked_at == clock.now()
    clock.advance(5)
    assert await desk.enrollment.revoke_key(desk.principal, request) == first


async def test_another_organisation_has_no_part_in_it(desk: Desk) -> None:
    key = (await made(desk)).key
    stranger = await desk.other_organisation()
    with pytest.raises(NotFound):
        await desk.enrollment.revoke_key(stranger, OrganisationKeysRevoke(key_id=key.id))
    page = await desk.enrollment.list_keys(stranger, OrganisationKeysList())
    assert (page.keys, page.total) == ([], 0)


async def test_who_may_not_make_keys_makes_none(desk: Desk) -> None:
    for role in (Role.VIEWER, Role.OPERATOR, Role.TECHNICIAN, Role.APPROVER, Role.AUDITOR):
        person = msgspec.structs.replace(desk.principal, role=role)
        with pytest.raises(Forbidden):
            await desk.enrollment.create_key(person, MAKE)
        with pytest.raises(Forbidden):
            await desk.enrollment.revoke_key(person, OrganisationKeysRevoke(key_id="x"))
    assert (await desk.enrollment.list_keys(desk.principal, OrganisationKeysList())).total == 0


async def test_one_key_of_a_machine_is_one_agent_whichever_way_it_comes(desk: Desk) -> None:
    key, csr = (await made(desk)).key_text, csr_of(ed25519_key())
    other = (await made(desk)).key_text
    await register(desk, key, registration_of(csr))
    with pytest.raises(KeyInUse):
        await register(desk, other, registration_of(csr))
