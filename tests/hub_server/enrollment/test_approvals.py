"""Tokens that need approval: machines wait in a queue until a person decides."""

import asyncio

import msgspec
import pytest
from sqlalchemy import text

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.enrollment.service import POLL_AFTER_SECONDS
from hub_server.enrollment.store import ApprovalStore
from hub_server.errors import Conflict, Forbidden, HubError, NotFound, QuotaReached, TokenRefused
from hub_server.events import AgentEnrolled
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enrollment import EnrollPending, EnrollReply, EnrollRequest
from protocol.enumerations import ApprovalKind, ApprovalState, Role
from protocol.joining import ApprovalsDecide, ApprovalsList, ApprovalView, TokensCreate, TokensRevoke
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock
from tests.hub_server.enrollment.conftest import HOME, Desk, request_of

WAITS = TokensCreate(approval=True, site="berlin", tags=["web"])
NOT_IN = {"used": 1, "agents": 0, "certificates": 0, "audited": 0}
IN = {"used": 1, "agents": 1, "certificates": 1, "audited": 1}
WEEK_SECONDS = 7 * 86400


async def asked(desk: Desk, uses: int = 1) -> tuple[EnrollRequest, ApprovalView]:
    """Return the request of a machine that waits, and its place in the queue."""
    token = await desk.token(msgspec.structs.replace(WAITS, uses=uses))
    assert token.token.approval
    request = request_of(token.token_text)
    await desk.queued(request)
    (approval,) = await desk.waiting()
    return request, approval


async def approve(desk: Desk, approval: ApprovalView) -> ApprovalView:
    return (await desk.enrollment.approve(desk.principal, ApprovalsDecide(approval_id=approval.id))).approval


async def reject(desk: Desk, approval: ApprovalView) -> ApprovalView:
    return (await desk.enrollment.reject(desk.principal, ApprovalsDecide(approval_id=approval.id))).approval


async def test_a_machine_waits_and_is_shown_with_its_fingerprint(desk: Desk, clock: FakeClock) -> None:
    request, approval = await asked(desk)
    assert await desk.enrollment.enroll(request, HOME) == EnrollPending(
        agent_id=approval.agent_id, poll_after_sec=POLL_AFTER_SECONDS
    )
    assert approval.kind is ApprovalKind.ENROLL
    assert (approval.hostname, approval.os, approval.address, approval.site, approval.tags) == (
        "web-01",
        "linux",
        HOME,
        "berlin",
        ["web"],
    )
    assert approval.fingerprint == desk.certificates.key_sha256_of(request.csr_pem).hex()
    assert (approval.expires_at - clock.now()).total_seconds() == WEEK_SECONDS
    assert len(await desk.waiting()) == 1
    assert await desk.counts() == NOT_IN


async def test_once_approved_the_next_poll_gets_the_certificate(desk: Desk, bus: InProcessBus) -> None:
    request, approval = await asked(desk)
    approved = await approve(desk, approval)
    assert (approved.state, approved.decided_by) == (ApprovalState.APPROVED, "user:ada")
    assert await desk.counts() == NOT_IN
    with bus.subscribe(frozenset({"fleet"}), name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as heard:
        reply = await desk.enrolled(request)
        (event,) = await heard.batch(1)
    assert isinstance(event, AgentEnrolled)
    assert await desk.counts() == IN
    assert await desk.enrolled(request) == reply
    (fetched,) = await desk.waiting(state=ApprovalState.APPROVED)
    assert fetched.agent_id == reply.agent_id
    token_id = request.token.split("_")[1].split(".")[0]
    assert await desk.audited() == [
        ("user:ada", "tokens:create", f"token:{token_id}"),
        (f"token:{token_id}", "approvals:request", f"approval:{approval.id}"),
        ("user:ada", "approvals:approve", f"approval:{approval.id}"),
        (f"token:{token_id}", "agents:enroll", f"agent:{reply.agent_id}"),
    ]


async def test_many_polls_at_once_are_one_agent(desk: Desk) -> None:
    request, approval = await asked(desk, uses=5)
    assert all(
        isinstance(reply, EnrollPending)
        for reply in await asyncio.gather(*(desk.enrollment.enroll(request, HOME) for _ in range(5)))
    )
    await approve(desk, approval)
    replies = await asyncio.gather(*(desk.enrolled(request) for _ in range(5)))
    assert len({reply.client_cert_pem for reply in replies}) == 1
    assert await desk.counts() == IN


async def test_first_requests_at_once_wait_once(desk: Desk) -> None:
    token = await desk.token(msgspec.structs.replace(WAITS, uses=5))
    request = request_of(token.token_text)
    await asyncio.gather(*(desk.queued(request) for _ in range(5)))
    assert len(await desk.waiting()) == 1
    assert await desk.counts() == NOT_IN


async def test_a_token_fills_no_more_places_than_it_has_uses(desk: Desk) -> None:
    token = await desk.token(msgspec.structs.replace(WAITS, uses=2))
    outcomes = await asyncio.gather(
        *(desk.enrollment.enroll(request_of(token.token_text), f"192.0.2.{number}") for number in range(10)),
        return_exceptions=True,
    )
    assert len([outcome for outcome in outcomes if isinstance(outcome, EnrollPending)]) == 2
    assert len([outcome for outcome in outcomes if isinstance(outcome, TokenRefused)]) == 8
    assert len(await desk.waiting()) == 2


async def test_a_machine_that_waits_does_not_mind_that_its_token_expires(desk: Desk, clock: FakeClock) -> None:
    request, approval = await asked(desk)
    clock.advance(86400)
    await desk.queued(request)
    await approve(desk, approval)
    await desk.enrolled(request)


async def test_a_rejected_machine_hears_it_each_time_and_is_not_shut_out(desk: Desk) -> None:
    request, approval = await asked(desk)
    assert (await reject(desk, approval)).state is ApprovalState.REJECTED
    for _ in range(20):
        with pytest.raises(Forbidden, match="turned away by a person at 2026-11-22 12:00 UTC"):
            await desk.enrollment.enroll(request, HOME)
    assert await desk.counts() == NOT_IN
    assert not await desk.waiting()


async def test_a_rejected_machine_may_ask_again_with_a_new_token(desk: Desk) -> None:
    request, approval = await asked(desk)
    await reject(desk, approval)
    token = await desk.token(WAITS)
    again = msgspec.structs.replace(request, token=token.token_text)
    await desk.queued(again)
    (second,) = await desk.waiting()
    assert second.id != approval.id
    with pytest.raises(NotFound):
        await approve(desk, approval)
    await approve(desk, second)
    await desk.enrolled(again)


async def test_nobody_decides_for_a_week_and_the_request_is_gone(desk: Desk, clock: FakeClock) -> None:
    request, approval = await asked(desk)
    clock.advance(WEEK_SECONDS - 1)
    assert len(await desk.waiting()) == 1
    clock.advance(1)
    assert not await desk.waiting()
    assert [late.state for late in await desk.waiting(state=ApprovalState.EXPIRED)] == [ApprovalState.EXPIRED]
    with pytest.raises(TokenRefused, match="nobody let this machine in"):
        await desk.enrollment.enroll(request, HOME)
    with pytest.raises(Conflict, match="expired at 2026-11-29"):
        await approve(desk, approval)


async def test_a_yes_that_nobody_used_ends_after_a_week(desk: Desk, clock: FakeClock) -> None:
    request, approval = await asked(desk)
    clock.advance(WEEK_SECONDS - 1)
    await approve(desk, approval)
    clock.advance(WEEK_SECONDS - 1)
    assert len(await desk.waiting(state=ApprovalState.APPROVED)) == 1
    clock.advance(1)
    assert not await desk.waiting(state=ApprovalState.APPROVED)
    with pytest.raises(TokenRefused):
        await desk.enrollment.enroll(request, HOME)


async def test_a_yes_can_be_taken_back_until_it_was_used(desk: Desk) -> None:
    request, approval = await asked(desk)
    await approve(desk, approval)
    await reject(desk, approval)
    with pytest.raises(Conflict, match="rejected by user:ada"):
        await approve(desk, approval)
    with pytest.raises(Forbidden):
        await desk.enrollment.enroll(request, HOME)
    other, second = await asked(desk)
    await approve(desk, second)
    await desk.enrolled(other)
    with pytest.raises(Conflict, match="in already"):
        await reject(desk, second)
    assert (await approve(desk, second)).state is ApprovalState.APPROVED


async def test_no_and_a_poll_race_and_only_one_of_them_wins(desk: Desk) -> None:
    for _ in range(10):
        request, approval = await asked(desk)
        await approve(desk, approval)
        before = await desk.counts()
        taken, got = await asyncio.gather(
            reject(desk, approval), desk.enrollment.enroll(request, HOME), return_exceptions=True
        )
        is_in = isinstance(got, EnrollReply)
        assert isinstance(taken, Conflict) is is_in
        assert (await desk.counts())["certificates"] - before["certificates"] == int(is_in)


async def test_a_poll_that_comes_while_no_is_being_written_waits_for_it(desk: Desk) -> None:
    request, approval = await asked(desk)
    await approve(desk, approval)
    organisation_id, store = desk.principal.organisation_id, ApprovalStore()
    async with asyncio.TaskGroup() as tasks, desk.database.write(organisation_id) as connection:
        stored = await store.find(connection, organisation_id, approval.id, lock=True)
        assert stored is not None
        poll = tasks.create_task(outcome_of(desk, request))
        await blocked(desk, poll)
        no = msgspec.structs.replace(stored, state=ApprovalState.REJECTED)
        await store.change(connection, organisation_id, approval.id, no)
    assert isinstance(poll.result(), Forbidden)
    assert await desk.counts() == NOT_IN


async def outcome_of(desk: Desk, request: EnrollRequest) -> EnrollReply | EnrollPending | HubError:
    try:
        return await desk.enrollment.enroll(request, HOME)
    except HubError as error:
        return error


async def blocked(desk: Desk, task: asyncio.Task[object]) -> None:
    """Return once somebody waits for a lock, or `task` has ended without. On SQLite nobody gets past the one writer."""
    waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
    async with asyncio.timeout(10):
        while not (desk.database.is_sqlite or task.done()):
            async with desk.database.read(EVERY_ORGANISATION) as connection:
                if await connection.scalar(waiting):
                    return


async def test_the_same_verdict_twice_is_audited_once(desk: Desk, clock: FakeClock) -> None:
    _, approval = await asked(desk)
    first = await approve(desk, approval)
    clock.advance(60)
    assert await approve(desk, approval) == first
    assert [action for _, action, _ in await desk.audited()].count("approvals:approve") == 1


async def test_a_revoked_token_lets_nobody_in_any_more(desk: Desk) -> None:
    request, approval = await asked(desk)
    await desk.enrollment.revoke_token(desk.principal, TokensRevoke(token_id=request.token.split("_")[1].split(".")[0]))
    with pytest.raises(TokenRefused, match="revoked"):
        await desk.enrollment.enroll(request, HOME)
    await approve(desk, approval)
    with pytest.raises(TokenRefused, match="revoked"):
        await desk.enrollment.enroll(request, HOME)
    assert await desk.counts() == NOT_IN


async def test_an_organisation_that_is_full_queues_nobody_and_lets_nobody_in(desk: Desk) -> None:
    request, approval = await asked(desk)
    await approve(desk, approval)
    await desk.bound_agents(0)
    with pytest.raises(QuotaReached):
        await desk.enrollment.enroll(request, HOME)
    token = await desk.token(WAITS)
    with pytest.raises(QuotaReached):
        await desk.enrollment.enroll(request_of(token.token_text), HOME)
    assert await desk.counts() == NOT_IN
    await desk.bound_agents(1)
    await desk.enrolled(request)


async def test_another_organisation_has_no_part_in_it(desk: Desk) -> None:
    _, approval = await asked(desk)
    stranger = await desk.other_organisation()
    assert not (await desk.enrollment.list_approvals(stranger, ApprovalsList())).approvals
    for decide in (desk.enrollment.approve, desk.enrollment.reject):
        with pytest.raises(NotFound):
            await decide(stranger, ApprovalsDecide(approval_id=approval.id))
    assert len(await desk.waiting()) == 1


async def test_who_may_not_decide_decides_nothing(desk: Desk) -> None:
    request, approval = await asked(desk)
    for role in (Role.VIEWER, Role.OPERATOR, Role.TECHNICIAN, Role.AUDITOR):
        person = msgspec.structs.replace(desk.principal, role=role)
        for decide in (desk.enrollment.approve, desk.enrollment.reject):
            with pytest.raises(Forbidden):
                await decide(person, ApprovalsDecide(approval_id=approval.id))
    await desk.queued(request)
    approver = msgspec.structs.replace(desk.principal, role=Role.APPROVER)
    assert (await desk.enrollment.list_approvals(approver, ApprovalsList())).total == 1
    await desk.enrollment.approve(approver, ApprovalsDecide(approval_id=approval.id))


async def test_the_queue_is_listed_oldest_first(desk: Desk, clock: FakeClock) -> None:
    token = await desk.token(msgspec.structs.replace(WAITS, uses=3))
    for number in range(3):
        await desk.queued(request_of(token.token_text, csr_of(ed25519_key()), f"web-{number}"))
        clock.advance(1)
    page = await desk.enrollment.list_approvals(desk.principal, ApprovalsList(limit=2))
    assert ([approval.hostname for approval in page.approvals], page.total) == (["web-0", "web-1"], 3)
    rest = await desk.enrollment.list_approvals(desk.principal, ApprovalsList(limit=2, offset=2, state=None))
    assert [approval.hostname for approval in rest.approvals] == ["web-2"]
