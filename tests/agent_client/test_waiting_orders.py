"""What may have changed while an order waited for its turn: it is judged again before it starts; one that has nothing
to wait for starts when it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.execution.terms import Terms
from agent_client.execution.verification import Audience, Rule
from agent_client.policy.file import Unusable
from agent_client.policy.terms import Policy, policy_of
from agent_client.trust.document import parse_trust
from protocol.enumerations import CommandOutcome, CommandReason, JobState
from protocol.frames import CommandAccepted, CommandResult, CommandStarted
from tests.agent_client.clock import SteppingClock
from tests.agent_client.fleet import now_ms, own_id
from tests.agent_client.lives import FLEET, Life, order


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path, SteppingClock())
    yield life
    life.close()


def policy(**jobs: Any) -> Policy:
    return policy_of({"jobs": jobs}, "/etc/jtnt/policy.toml")


CHANGES: dict[str, tuple[dict[str, Any], Rule]] = {
    "its hours are over": ({"policy": policy(windows=[])}, Rule.POLICY_WINDOW),
    "root forbids it": ({"policy": policy(actions=["service"])}, Rule.POLICY_ACTION),
    "root allows none": ({"policy": policy(per_hour=0)}, Rule.POLICY_RATE),
    "root wants a second signature": ({"policy": policy(signatures="hub+operator")}, Rule.OPERATOR_SIGNATURE),
    "the policy is not to be believed": ({"policy": Unusable("somebody could change it")}, Rule.POLICY),
    "the organisation forbids it": ({"allowed_actions": frozenset({"service"})}, Rule.ACTION),
    "the machine has become another": ({"audience": Audience("org-2", "agent-2")}, Rule.ORGANISATION),
    "its key was taken out": ({"trust": parse_trust(FLEET.trust(signers=[]))}, Rule.UNKNOWN_KEY),
    "its key was revoked": (
        {"trust": parse_trust(FLEET.trust(revoked_key_ids=[FLEET.signer.key_id]))},
        Rule.REVOKED_KEY,
    ),
    "its key has expired": (
        {"trust": parse_trust(FLEET.trust(signers=[FLEET.signer.as_trusted(not_after_ms=now_ms() - 1)]))},
        Rule.EXPIRED_KEY,
    ),
}


async def refusal_of_what_waited(life: Life, tmp_path: Path) -> None:
    async with life.running():
        result = await life.first(CommandResult)
    assert (result.status, result.reason) == (CommandOutcome.FAILED, CommandReason.DENIED_BY_AGENT)
    assert result.started_at is None
    assert result.result.startswith("it waited for its turn, and may not run any more: ")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("change", CHANGES)
async def test_what_may_not_run_any_more_when_its_turn_comes_is_refused_with_the_rule(
    life: Life, tmp_path: Path, change: str
) -> None:
    terms, rule = CHANGES[change]
    assert life.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "ran"))) is None
    life.terms = msgspec.structs.replace(life.terms, **terms)
    await refusal_of_what_waited(life, tmp_path)
    assert life.results()[0].rule == rule


async def test_an_order_of_an_earlier_life_is_judged_by_its_signatures_on_disk(tmp_path: Path) -> None:
    dead = Life(tmp_path, SteppingClock())
    dead.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "ran")))
    dead.close()
    life = Life(tmp_path, SteppingClock())
    life.terms = Terms(life.terms.audience, parse_trust(FLEET.trust(signers=[])), life.terms.allowed_actions)
    await refusal_of_what_waited(life, tmp_path)
    life.close()
    assert life.results()[0].rule == Rule.UNKNOWN_KEY


async def test_an_order_that_was_changed_on_disk_does_not_run(tmp_path: Path) -> None:
    dead = Life(tmp_path, SteppingClock())
    dead.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "not")))
    changed = msgspec.json.encode(FLEET.envelope(own_id("job-1"), ["touch", str(tmp_path / "ran")]))
    dead.database.execute("UPDATE jobs SET envelope = ?", (changed,))
    dead.close()
    life = Life(tmp_path, SteppingClock())
    await refusal_of_what_waited(life, tmp_path)
    life.close()
    assert life.results()[0].rule == Rule.SIGNATURE


async def test_the_number_of_an_hour_is_counted_when_orders_come_and_not_again(life: Life) -> None:
    life.terms = msgspec.structs.replace(life.terms, policy=policy(per_hour=2))
    for number in range(2):
        assert life.jobs.receive(order(own_id(f"job-{number}"), "true")) is None
    async with life.running():
        await life.first(CommandResult, 2)
    assert {result.status for result in life.results()} == {CommandOutcome.COMPLETED}


async def test_an_order_is_accepted_and_begun_by_one_write_unless_it_has_to_wait(life: Life) -> None:
    async with life.running():
        life.jobs.receive(order(own_id("job-0"), "sleep", "60"))
        await life.first(CommandStarted)
        for number in (1, 2):
            life.jobs.receive(order(own_id(f"job-{number}"), "sleep", "60"))
        states = [entry.state for entry in life.journal.open_entries()]
        assert sorted(states) == [JobState.ACCEPTED, JobState.STARTED, JobState.STARTED]
        await life.first(CommandStarted, 2)
        life.jobs.cancel(own_id("job-1"))
        await life.first(CommandStarted, 3)
        assert {entry.state for entry in life.journal.open_entries()[1:]} <= {JobState.STARTED, JobState.FINISHED}


async def test_an_order_that_is_cancelled_before_its_process_is_made_does_not_run(life: Life, tmp_path: Path) -> None:
    async with life.running():
        life.jobs.receive(order(own_id("job-0"), "sleep", "60"))
        await life.first(CommandStarted)
        life.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "ran")))
        assert life.jobs.state_of(own_id("job-1")).state is JobState.STARTED
        life.jobs.cancel(own_id("job-1"))
        result = await life.first(CommandResult)
    assert (result.status, result.started_at) == (CommandOutcome.CANCELLED, None)
    assert not (tmp_path / "ran").exists()


async def test_an_order_that_was_cancelled_before_its_process_is_not_told_to_have_begun_by_the_next_life(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path, SteppingClock())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(life.jobs.run(), name="jobs")
        await asyncio.sleep(0)
        life.jobs.receive(order(own_id("job-1"), "true"))
        life.jobs.cancel(own_id("job-1"))
        await life.finished(own_id("job-1"))
        running.cancel()
    life.close()
    again = Life(tmp_path, SteppingClock())
    async with again.running():
        await again.first(CommandResult)
    again.close()
    assert [type(frame) for frame in again.sent] == [CommandAccepted, CommandResult]


async def test_a_cancel_that_the_journal_did_not_take_holds_in_the_next_life(tmp_path: Path) -> None:
    life, job_id = Life(tmp_path, SteppingClock()), own_id("job-1")
    life.jobs.receive(order(job_id, "touch", str(tmp_path / "ran")))
    life.database.rows("PRAGMA query_only = 1")
    life.jobs.cancel(job_id)
    life.jobs.settled(job_id)
    assert job_id in life.jobs.open
    life.database.rows("PRAGMA query_only = 0")
    life.jobs.settled(job_id)
    assert job_id not in life.jobs.open
    life.close()
    again = Life(tmp_path, SteppingClock())
    async with again.running():
        again.jobs.receive(order(own_id("job-2"), "true"))
        await again.first(CommandResult)
    again.close()
    assert [result.command_id for result in again.results()] == [own_id("job-2")]
    assert not (tmp_path / "ran").exists()


async def test_an_order_whose_start_the_journal_does_not_take_is_told_not_to_have_run(
    life: Life, tmp_path: Path
) -> None:
    life.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "ran")))
    life.database.rows("PRAGMA query_only = 1")
    async with life.running():
        result = await life.first(CommandResult)
    assert (result.status, result.reason, result.started_at) == (
        CommandOutcome.FAILED,
        CommandReason.START_FAILED,
        None,
    )
    assert result.result.startswith("it has not run: the agent cannot write its journal: ")
    assert not (tmp_path / "ran").exists()


async def test_an_order_that_comes_in_the_last_moment_is_interrupted_and_takes_no_place_from_later_ones(
    life: Life, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(life.jobs.run(), name="jobs")
        await asyncio.sleep(0)
        running.cancel()
        for number in range(2):
            life.jobs.receive(order(own_id(f"job-{number}"), "touch", str(tmp_path / "ran")))
    ends = [entry.result.reason for entry in life.journal.open_entries() if entry.result]
    assert ends == [CommandReason.INTERRUPTED] * 2
    async with life.running():
        life.jobs.receive(order(own_id("job-2"), "true"))
        assert (await life.first(CommandResult, 3)).exit_code == 0
    assert not (tmp_path / "ran").exists()
