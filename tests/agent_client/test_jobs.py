from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_client.execution.job import AHEAD_MAX_BYTES
from agent_client.execution.jobs import Jobs
from agent_client.execution.journal import Journal
from agent_client.execution.reporting import JobReport, Reporter
from agent_client.execution.terms import Terms
from agent_client.execution.verification import Rule
from agent_client.spool.database import Database
from agent_client.trust.document import TrustError
from protocol.enumerations import CommandOutcome, CommandReason, JobState, OutputStream
from protocol.frames import (
    CommandAccepted,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandStarted,
)
from tests.agent_client.clock import SteppingClock
from tests.agent_client.fleet import Signer, own_id
from tests.agent_client.lives import BOUNDS, OUT, Life, order


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def life(tmp_path: Path, clock: SteppingClock) -> Iterator[Life]:
    life = Life(tmp_path, clock)
    yield life
    life.close()


async def test_a_job_is_told_from_acceptance_to_result_in_order(life: Life) -> None:
    async with life.running():
        assert life.jobs.receive(order(own_id("job-1"), "echo", "hello")) is None
        result = await life.first(CommandResult)
    assert [type(frame) for frame in life.sent] == [CommandAccepted, CommandStarted, CommandOutput, CommandResult]
    assert life.output() == "hello\n"
    assert (result.status, result.exit_code, result.output_bytes) == (CommandOutcome.COMPLETED, 0, {OUT: 6})


async def test_the_start_is_on_disk_before_the_process_is(life: Life, tmp_path: Path) -> None:
    """The job itself looks into the journal."""
    code = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select state, started_at from jobs')"
        ".fetchone()[0])"
    )
    async with life.running():
        life.jobs.receive(order(own_id("job-1"), sys.executable, "-c", code, str(tmp_path / "spool.db")))
        await life.first(CommandResult)
    assert life.output() == "started\n"


async def test_the_same_order_again_never_runs_again_but_is_told_again(life: Life, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = order(own_id("job-1"), "sh", "-c", f"echo ran >> {mark}")
    async with life.running():
        life.jobs.receive(command)
        first = await life.first(CommandResult)
        assert life.jobs.receive(command) is None
        assert await life.first(CommandResult, 2) == first
        life.jobs.settled(own_id("job-1"))
        assert life.jobs.open == {}
        assert life.jobs.receive(command) is None
        assert await life.first(CommandResult, 3) == first
    assert mark.read_text() == "ran\n"


async def test_an_altered_order_under_a_known_id_neither_runs_nor_ends_the_first(life: Life, tmp_path: Path) -> None:
    async with life.running():
        life.jobs.receive(order(own_id("job-1"), "sleep", "60"))
        await life.first(CommandStarted)
        assert life.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "bad"), signer=Signer())) is None
        assert life.jobs.state_of(own_id("job-1")).state is JobState.STARTED
        assert not life.results()
    assert not (tmp_path / "bad").exists()


async def test_a_refused_order_says_which_rule_and_leaves_its_id_free(life: Life) -> None:
    refusal = life.jobs.receive(order(own_id("job-1"), "true", signer=Signer()))
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (CommandOutcome.FAILED, CommandReason.DENIED_BY_AGENT)
    assert refusal.rule == Rule.UNKNOWN_KEY
    async with life.running():
        assert life.jobs.receive(order(own_id("job-1"), "true")) is None
        assert (await life.first(CommandResult)).status is CommandOutcome.COMPLETED


def test_an_expired_order_is_said_to_be_expired_even_when_the_clock_went_back(life: Life, clock: SteppingClock) -> None:
    now = clock.now_ms()
    late = order(own_id("job-2"), "true", issued_at=now - 120_000, expires_at=now - 60_000)
    refusal = life.jobs.receive(late)
    assert refusal is not None
    assert refusal.reason is CommandReason.EXPIRED
    assert life.jobs.receive(order(own_id("job-1"), "true", issued_at=now)) is None
    clock.offset_ms = -3600_000
    refusal = life.jobs.receive(late)
    assert refusal is not None
    assert (refusal.reason, refusal.rule) == (CommandReason.EXPIRED, Rule.EXPIRED)


def test_without_a_readable_trust_document_nothing_runs(tmp_path: Path, clock: SteppingClock) -> None:
    database = Database(tmp_path / "spool.db")

    def terms() -> Terms:
        raise TrustError("trust.json is malformed")

    jobs = Jobs(Journal(database, clock), terms, clock, tmp_path / "jobs", BOUNDS)
    refusal = jobs.receive(order(own_id("job-1"), "true"))
    assert refusal is not None
    assert refusal.rule == Rule.TRUST
    database.close()


def test_an_order_outside_the_policy_is_refused(tmp_path: Path, clock: SteppingClock) -> None:
    life = Life(tmp_path, clock, frozenset())
    refusal = life.jobs.receive(order(own_id("job-1"), "true"))
    assert refusal is not None
    assert refusal.rule == Rule.ACTION
    life.close()


async def test_what_was_started_when_the_agent_died_is_interrupted_and_never_runs(
    tmp_path: Path, clock: SteppingClock
) -> None:
    """The journal as `kill -9` leaves it: started, nothing after."""
    dead = Life(tmp_path, clock)
    dead.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "ran")))
    dead.journal.start(own_id("job-1"))
    (tmp_path / "jobs").mkdir(mode=0o700, exist_ok=True)
    (tmp_path / "jobs" / f"{own_id('job-1')}.stdout").write_bytes(b"so far")
    (tmp_path / "jobs" / f"{own_id('job-0')}.stdout").write_bytes(b"of nobody")
    dead.close()
    life = Life(tmp_path, clock)
    assert [progress.state for progress in life.jobs.progress()] == [JobState.FINISHED]
    async with life.running():
        result = await life.first(CommandResult)
    life.close()
    assert (result.status, result.reason) == (CommandOutcome.FAILED, CommandReason.INTERRUPTED)
    assert life.output() == "so far"
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "jobs" / f"{own_id('job-0')}.stdout").exists()


async def test_what_was_accepted_and_not_started_runs_once_in_the_next_life(
    tmp_path: Path, clock: SteppingClock
) -> None:
    dead = Life(tmp_path, clock)
    dead.jobs.receive(order(own_id("job-1"), "sh", "-c", f"echo ran | tee -a {tmp_path}/mark"))
    dead.close()
    life = Life(tmp_path, clock)
    async with life.running():
        assert (await life.first(CommandResult)).status is CommandOutcome.COMPLETED
    life.close()
    assert (tmp_path / "mark").read_text() == life.output() == "ran\n"


async def test_an_accepted_order_that_this_version_cannot_read_is_told_not_to_have_run(
    tmp_path: Path, clock: SteppingClock
) -> None:
    dead = Life(tmp_path, clock)
    for job_id in (own_id("job-1"), own_id("job-2")):
        dead.jobs.receive(order(job_id, "touch", str(tmp_path / job_id)))
    dead.database.execute("UPDATE jobs SET envelope = ? WHERE id = ?", (b'{"kind":"jtnt.job.v2"}', own_id("job-1")))
    dead.close()
    life = Life(tmp_path, clock)
    async with life.running():
        await life.first(CommandResult, 2)
    life.close()
    assert {result.command_id: result.reason for result in life.results()} == {
        own_id("job-1"): CommandReason.START_FAILED,
        own_id("job-2"): None,
    }
    assert [(tmp_path / job_id).exists() for job_id in (own_id("job-1"), own_id("job-2"))] == [False, True]


async def test_what_waited_beyond_its_expiry_does_not_run(tmp_path: Path, clock: SteppingClock) -> None:
    dead = Life(tmp_path, clock)
    dead.jobs.receive(order(own_id("job-1"), "touch", str(tmp_path / "ran")))
    dead.close()
    clock.offset_ms = 120_000
    life = Life(tmp_path, clock)
    async with life.running():
        result = await life.first(CommandResult)
    life.close()
    assert result.reason is CommandReason.EXPIRED
    assert not (tmp_path / "ran").exists()


async def test_stopping_the_agent_kills_what_runs_and_keeps_the_result_for_the_next_life(
    tmp_path: Path, clock: SteppingClock
) -> None:
    life = Life(tmp_path, clock)
    async with life.running():
        life.jobs.receive(order(own_id("job-1"), "sh", "-c", "echo $$; sleep 60"))
        pid = int((await life.first(CommandOutput)).data)
    life.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    again = Life(tmp_path, clock)
    async with again.running():
        result = await again.first(CommandResult)
    again.close()
    assert (result.reason, result.output_bytes) == (CommandReason.INTERRUPTED, {OUT: len(f"{pid}\n")})


async def test_no_more_jobs_run_at_once_than_allowed_and_the_rest_wait(life: Life, tmp_path: Path) -> None:
    async with life.running():
        for number in range(4):
            life.jobs.receive(
                order(own_id(f"job-{number}"), "sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.02; done")
            )
        await life.first(CommandStarted, 2)
        assert life.jobs.running() == 2
        assert [progress.state for progress in life.jobs.progress()].count(JobState.ACCEPTED) == 2
        (tmp_path / "go").touch()
        await life.first(CommandResult, 4)


async def test_a_waiting_job_is_cancelled_without_running_and_a_running_one_is_killed(
    life: Life, tmp_path: Path
) -> None:
    async with life.running():
        for number in range(2):
            life.jobs.receive(order(own_id(f"job-{number}"), "sleep", "60"))
        life.jobs.receive(order(own_id("job-2"), "touch", str(tmp_path / "ran")))
        await life.first(CommandStarted, 2)
        for number in (2, 0, 1):
            life.jobs.cancel(own_id(f"job-{number}"))
        await life.first(CommandResult, 3)
    assert {result.command_id: result.status for result in life.results()} == dict.fromkeys(
        (own_id("job-0"), own_id("job-1"), own_id("job-2")), CommandOutcome.CANCELLED
    )
    assert life.results()[0].command_id == own_id("job-2")
    assert not (tmp_path / "ran").exists()


async def test_cancelling_what_has_ended_changes_nothing(life: Life) -> None:
    async with life.running():
        life.jobs.receive(order(own_id("job-1"), "true"))
        await life.first(CommandResult)
        life.jobs.cancel(own_id("job-1"))
        life.jobs.cancel("unheard of")
        assert life.jobs.state_of(own_id("job-1")).state is JobState.FINISHED
        assert life.jobs.state_of("unheard of").state is JobState.UNKNOWN
    assert len(life.results()) == 1


async def test_output_waits_for_credits_on_disk_while_the_process_goes_on(life: Life) -> None:
    reporter = life.reporter(window=2)
    code = "import sys; sys.stdout.write('x' * 200_000); sys.stdout.flush(); sys.stderr.write('end')"
    async with life.running(reporter):
        life.jobs.receive(order(own_id("job-1"), sys.executable, "-c", code))
        await life.finished(own_id("job-1"))
        await life.first(CommandOutput, 2)
        assert len([frame for frame in life.sent if isinstance(frame, CommandOutput)]) == 2
        assert life.results() == []
        ack = CommandOutputAck(command_id=own_id("job-1"), stream=OUT, offset=64 * 1024, credits=16)
        reporter.output_acknowledged(ack)
        result = await life.first(CommandResult)
    chunks = [frame for frame in life.sent if isinstance(frame, CommandOutput) and frame.stream is OUT]
    assert "".join(chunk.data for chunk in chunks) == "x" * 200_000
    assert result.output_bytes == {OUT: 200_000, OutputStream.STDERR: 3}


async def test_a_new_session_resumes_output_at_the_acknowledged_byte(life: Life) -> None:
    first = life.reporter(window=3)
    async with life.running(first):
        life.jobs.receive(order(own_id("job-1"), sys.executable, "-c", "import sys; sys.stdout.write('y' * 240_000)"))
        await life.first(CommandOutput, 3)
        first.output_acknowledged(CommandOutputAck(command_id=own_id("job-1"), stream=OUT, offset=40_000, credits=0))
        await life.finished(own_id("job-1"))
    said = life.jobs.progress()
    life.sent.clear()
    async with life.running(life.reporter(said)):
        await life.first(CommandResult)
    outputs = [frame for frame in life.sent if isinstance(frame, CommandOutput)]
    assert outputs[0].offset == 40_000
    assert sum(len(frame.data) for frame in outputs) == 200_000
    assert CommandAccepted not in {type(frame) for frame in life.sent}


async def test_what_the_hub_is_silent_about_is_sent_again_in_the_same_session(life: Life) -> None:
    async with life.running(life.reporter(ack_timeout=0.1)):
        life.jobs.receive(order(own_id("job-1"), "echo", "hi"))
        await life.first(CommandResult, 2)
    assert [frame.offset for frame in life.sent if isinstance(frame, CommandOutput)][:2] == [0, 0]


async def test_output_that_the_disk_has_lost_ends_there_and_the_result_says_so(life: Life, tmp_path: Path) -> None:
    async with life.running(life.reporter(window=0)):
        life.jobs.receive(order(own_id("job-1"), "echo", "hello"))
        await life.finished(own_id("job-1"))
    os.truncate(tmp_path / "jobs" / f"{own_id('job-1')}.stdout", 2)
    async with life.running():
        result = await life.first(CommandResult)
    assert life.output() == "he"
    assert (result.truncated, result.output_bytes) == (True, {OUT: 6})


async def test_output_that_a_power_cut_has_taken_is_said_to_be_missing(tmp_path: Path, clock: SteppingClock) -> None:
    """The journal is on disk when a result is told, the output is on its way there."""
    life = Life(tmp_path, clock)
    async with life.running(life.reporter(window=0)):
        life.jobs.receive(order(own_id("job-1"), "echo", "hello"))
        await life.finished(own_id("job-1"))
    life.close()
    os.truncate(tmp_path / "jobs" / f"{own_id('job-1')}.stdout", 2)
    again = Life(tmp_path, clock)
    async with again.running():
        result = await again.first(CommandResult)
    again.close()
    assert again.output() == "he"
    assert (result.truncated, result.exit_code) == (True, 0)


async def test_a_stream_that_begins_while_the_other_is_told_is_told_too(life: Life, tmp_path: Path) -> None:
    async def send(frame: JobReport) -> None:
        if isinstance(frame, CommandOutput) and frame.stream is OUT:
            life.jobs.open[own_id("job-1")].capture.write(OutputStream.STDERR, b"meanwhile")
        await life.send(frame)

    reporter = Reporter(life.jobs, send, life.clock, said_in_hello=[], window=16, ack_timeout_seconds=30)
    async with life.running(reporter):
        life.jobs.receive(
            order(own_id("job-1"), "sh", "-c", f"echo one; until [ -e {tmp_path}/go ]; do sleep 0.02; done")
        )
        await life.first(CommandOutput, 2)
        (tmp_path / "go").touch()
        await life.first(CommandResult)
    assert life.output() == "one\nmeanwhile"


async def test_a_job_whose_result_the_hub_holds_leaves_no_file(life: Life, tmp_path: Path) -> None:
    async with life.running():
        life.jobs.receive(order(own_id("job-1"), "echo", "hi"))
        await life.first(CommandResult)
        assert list((tmp_path / "jobs").iterdir())
        life.jobs.settled(own_id("job-1"))
        assert not list((tmp_path / "jobs").iterdir())
        async with asyncio.timeout(1):
            await life.jobs.told()


async def test_a_full_disk_refuses_the_job_instead_of_running_it_unwritten(life: Life, tmp_path: Path) -> None:
    pages = life.database.number("PRAGMA page_count")
    life.database.rows(f"PRAGMA max_page_count = {pages}")
    orders = [
        order(own_id(f"job-{number}"), "touch", str(tmp_path / f"ran-{number}"), "x" * 3000) for number in range(40)
    ]
    refusals = [refusal for command in orders if (refusal := life.jobs.receive(command))]
    assert refusals
    assert {refusal.rule for refusal in refusals} == {Rule.JOURNAL}
    assert len(life.jobs.open) == 40 - len(refusals)


FLOOD = "import sys\nwhile sys.stdout.write('x' * 65536): pass"


async def seen(fact: Callable[[], bool]) -> None:
    """Wait for what has no event."""
    async with asyncio.timeout(30):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_job_that_runs_ahead_of_a_hub_that_is_there_is_slowed_until_it_catches_up(life: Life) -> None:
    async with life.running(life.reporter(window=1)) as reporter:
        life.jobs.receive(order(own_id("job-1"), sys.executable, "-c", FLOOD))
        await life.first(CommandOutput)
        job = life.jobs.open[own_id("job-1")]
        await seen(lambda: job.valve.is_closed)
        held = job.capture.written[OUT]
        assert held < 2 * AHEAD_MAX_BYTES
        reporter.output_acknowledged(CommandOutputAck(command_id=own_id("job-1"), stream=OUT, offset=held, credits=1))
        await seen(lambda: job.capture.written[OUT] > held)


async def test_a_job_is_never_slowed_while_the_hub_is_away(life: Life) -> None:
    async with asyncio.TaskGroup() as group:
        alone = group.create_task(life.jobs.run(), name="jobs")
        life.jobs.receive(order(own_id("job-1"), sys.executable, "-c", FLOOD, output_limit_bytes=16 * AHEAD_MAX_BYTES))
        await seen(life.jobs.open[own_id("job-1")].capture.is_full)
        alone.cancel()
