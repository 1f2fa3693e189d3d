import asyncio

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.errors import InvalidRequest, KeyInUse, RateLimited, TokenRefused
from hub_server.events import AgentEnrolled
from hub_server.pki.model import Standing
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enrollment import EnrollReply
from protocol.identity import EnrollmentToken
from protocol.joining import TokensCreate, TokensRevoke
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock
from tests.hub_server.enrollment.conftest import HOME, Desk, request_of

NOTHING = {"used": 0, "agents": 0, "certificates": 0, "audited": 0}
ONE = {"used": 1, "agents": 1, "certificates": 1, "audited": 1}


async def refused(desk: Desk, token: str, said: str, address: str = HOME) -> None:
    before = await desk.counts()
    with pytest.raises(TokenRefused, match=said) as error:
        await desk.enrollment.enroll(request_of(token), address)
    assert error.value.path == "$.token"
    assert await desk.counts() == before


async def test_a_machine_joins_with_what_its_token_says(desk: Desk, bus: InProcessBus, organisation_id: str) -> None:
    token = await desk.token(TokensCreate(site="berlin", tags=["web", "web", "a"], ttl_sec=60))
    assert token.join_string == f"jtnt://hub.example:3001/#{token.token_text}"
    assert token.token.tags == ["web", "a"]
    with bus.subscribe(frozenset({"fleet"}), name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as heard:
        reply = await desk.enrolled(request_of(token.token_text))
        assert heard.buffered == 1
        assert await heard.batch(1) == [
            AgentEnrolled(organisation_id=organisation_id, agent_id=reply.agent_id, hostname="web-01")
        ]
    assert reply.ca_bundle_pem == desk.authority.ca_bundle_pem
    assert reply.trust == desk.authority.trust
    assert reply.websocket_url == "wss://hub.example:3001/ws/agents"
    assert reply.next_heartbeat_sec == 30
    assert await desk.counts() == ONE
    assert desk.certificates.expires_at(reply.agent_id) is not None


async def test_fifty_race_for_one_use_and_one_wins(desk: Desk) -> None:
    token = await desk.token()

    outcomes = await asyncio.gather(
        *(desk.enrollment.enroll(request_of(token.token_text), f"192.0.2.{number}") for number in range(50)),
        return_exceptions=True,
    )
    losers = [outcome for outcome in outcomes if isinstance(outcome, TokenRefused)]
    assert len(losers) == 49
    assert {loser.message for loser in losers} == {"this enrollment token was used already; ask for a new one"}
    assert await desk.counts() == ONE


async def test_racers_with_one_key_are_one_agent(desk: Desk) -> None:
    token = await desk.token(TokensCreate(uses=5))
    request = request_of(token.token_text)
    replies = await asyncio.gather(*(desk.enrolled(request) for _ in range(5)))
    assert len({reply.client_cert_pem for reply in replies}) == 1
    assert await desk.counts() == ONE


async def test_a_lost_answer_is_repeated_for_ten_minutes(desk: Desk, bus: InProcessBus, clock: FakeClock) -> None:
    token = await desk.token(TokensCreate(ttl_sec=60))
    request = request_of(token.token_text)
    first = await desk.enrolled(request)
    clock.advance(600)
    with bus.subscribe(frozenset({"fleet"}), name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as heard:
        assert await desk.enrollment.enroll(request, HOME) == first
        assert not heard.buffered
    assert await desk.counts() == ONE
    clock.advance(1)
    await refused(desk, token.token_text, "used already")
    with pytest.raises(TokenRefused, match="by this very machine"):
        await desk.enrollment.enroll(request, HOME)


async def test_a_repeated_answer_is_no_use_once_the_agent_is_revoked(desk: Desk, organisation_id: str) -> None:
    request = request_of((await desk.token()).token_text)
    reply = await desk.enrolled(request)
    async with desk.database.write(EVERY_ORGANISATION) as connection:
        await desk.certificates.revoke_agent(connection, organisation_id, reply.agent_id)
    with pytest.raises(TokenRefused):
        await desk.enrollment.enroll(request, HOME)


async def test_a_used_token_says_so(desk: Desk) -> None:
    token = await desk.token(TokensCreate(uses=2))
    for _ in range(2):
        await desk.enrollment.enroll(request_of(token.token_text), HOME)
    await refused(desk, token.token_text, "was used already")


async def test_an_expired_token_says_so(desk: Desk, clock: FakeClock) -> None:
    token = await desk.token(TokensCreate(ttl_sec=60))
    clock.advance(60)
    await refused(desk, token.token_text, "expired at 2026-11-22 12:01 UTC")


async def test_a_revoked_token_says_so(desk: Desk) -> None:
    token = await desk.token()
    await desk.enrollment.revoke_token(desk.principal, TokensRevoke(token_id=token.token.id))
    await refused(desk, token.token_text, "was revoked")


async def test_a_token_that_is_not_quite_right_is_refused(desk: Desk) -> None:
    token = EnrollmentToken.parse((await desk.token()).token_text)
    for wrong, said in (
        (EnrollmentToken("unknown1", token.secret, token.pin), "unknown here"),
        (EnrollmentToken(token.id, bytes(32), token.pin), "unknown here"),
        (EnrollmentToken(token.id, token.secret, bytes(16)), "made by another hub"),
    ):
        await refused(desk, wrong.text, said)


async def test_what_is_no_token_is_refused(desk: Desk) -> None:
    for text in ("", "jtnte_", "hunter2", "jtnte_a.b.c.d", "\0"):
        await refused(desk, text, "enrollment token")


async def test_a_mistyped_token_is_refused(desk: Desk) -> None:
    text = (await desk.token()).token_text
    wrong = "x" if text[-20] != "x" else "y"
    await refused(desk, f"{text[:-20]}{wrong}{text[-19:]}", "mistyped")


async def test_a_bad_request_burns_nothing(desk: Desk) -> None:
    token = await desk.token()
    with pytest.raises(InvalidRequest) as error:
        await desk.enrollment.enroll(request_of(token.token_text, "no csr"), HOME)
    assert error.value.path == "$.csr_pem"
    assert await desk.counts() == NOTHING
    await desk.enrollment.enroll(request_of(token.token_text), HOME)


async def test_another_agents_key_burns_nothing(desk: Desk) -> None:
    csr = csr_of(ed25519_key())
    await desk.enrollment.enroll(request_of((await desk.token()).token_text, csr), HOME)
    second = await desk.token()
    with pytest.raises(KeyInUse):
        await desk.enrollment.enroll(request_of(second.token_text, csr), HOME)
    assert await desk.counts() == ONE


async def test_two_tokens_race_for_one_key_and_one_wins(desk: Desk) -> None:
    csr = csr_of(ed25519_key())
    tokens = [await desk.token() for _ in range(8)]
    outcomes = await asyncio.gather(
        *(desk.enrollment.enroll(request_of(token.token_text, csr), HOME) for token in tokens),
        return_exceptions=True,
    )
    assert len([outcome for outcome in outcomes if isinstance(outcome, EnrollReply)]) == 1
    assert len([outcome for outcome in outcomes if isinstance(outcome, KeyInUse)]) == 7
    assert await desk.counts() == ONE


async def test_whoever_guesses_is_slowed_and_then_shut_out(desk: Desk, clock: FakeClock) -> None:
    for _ in range(5):
        await refused(desk, "guess", "enrollment token")
    with pytest.raises(RateLimited) as slowed:
        await desk.enrollment.enroll(request_of("guess"), HOME)
    assert slowed.value.retry_after_seconds == 1
    for _ in range(5):
        clock.advance(1)
        await refused(desk, "guess", "enrollment token")
    clock.advance(5)
    good = await desk.token()
    with pytest.raises(RateLimited) as shut_out:
        await desk.enrollment.enroll(request_of(good.token_text), HOME)
    assert shut_out.value.retry_after_seconds == 590
    await desk.enrollment.enroll(request_of(good.token_text), "203.0.113.9")
    clock.advance(590)
    await desk.enrollment.enroll(request_of((await desk.token()).token_text), HOME)


async def test_a_whole_site_joins_from_one_address(desk: Desk) -> None:
    token = await desk.token(TokensCreate(uses=30))
    await asyncio.gather(*(desk.enrollment.enroll(request_of(token.token_text), HOME) for _ in range(30)))
    assert await desk.counts() == {"used": 30, "agents": 30, "certificates": 30, "audited": 30}


async def test_a_failure_after_the_burning_undoes_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await desk.token()

    async def fail(*_arguments: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(desk.certificates, "issue", fail)
        with pytest.raises(OSError, match="disk is full"):
            await desk.enrollment.enroll(request_of(token.token_text), HOME)
    assert await desk.counts() == NOTHING
    reply = await desk.enrolled(request_of(token.token_text))
    assert desk.certificates.standing("00", reply.agent_id, bytes(32)) is Standing.UNKNOWN
