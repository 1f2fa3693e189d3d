"""Jobs over a real connection that comes and goes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent_client.config import load_config, save_config
from agent_client.paths import Places
from protocol.enumerations import (
    CommandOutcome,
    CommandReason,
    JobState,
)
from protocol.frames import (
    CommandAccepted,
    CommandCancel,
    CommandOutput,
    CommandOutputAck,
    CommandQuery,
    CommandResult,
    CommandStarted,
    CommandState,
    Goodbye,
    Heartbeat,
    Hello,
)
from tests.agent_client.alive import alive, until
from tests.agent_client.fleet import Fleet, Signer, own_id
from tests.agent_client.hub import Hub, running

pytestmark = pytest.mark.usefixtures("hurried")


async def test_a_job_is_run_reported_and_forgotten_by_both(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("job-1"), ["echo", "hello"])))
            result = await peer.first(CommandResult)
            assert result.status is CommandOutcome.COMPLETED
            await until(lambda: agent.status().jobs_unreported == 0)
            await peer.send(CommandQuery(command_id=own_id("job-1")))
            await peer.send(CommandQuery(command_id=own_id("job-2")))
            states = await peer.several(2, CommandState)
            assert [state.state for state in states] == [JobState.FINISHED, JobState.UNKNOWN]
    assert hub.output == {(own_id("job-1"), "stdout"): b"hello\n"}
    order = [type(frame) for frame in peer.frames if type(frame).__name__.startswith("Command")]
    assert order[:4] == [CommandAccepted, CommandStarted, CommandOutput, CommandResult]


async def test_a_forged_job_is_refused_with_its_rule(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            mark = tmp_path / "mark"
            await peer.send(fleet.command(fleet.envelope(own_id("job-1"), ["touch", str(mark)]), Signer()))
            result = await peer.first(CommandResult)
    assert (result.reason, result.rule) == (CommandReason.DENIED_BY_AGENT, "unknown_key")
    assert not mark.exists()


async def test_a_job_goes_on_while_the_hub_is_away_and_its_output_resumes_at_the_right_byte(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            script = f"echo before; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo after"
            await first.send(fleet.command(fleet.envelope(own_id("job-1"), ["sh", "-c", script])))
            await first.first(CommandOutput)
            await first.send(CommandQuery(command_id=own_id("job-1")))
            await first.first(CommandState)  # the acknowledgement of the output has come before it
            save_config(places, msgspec.structs.replace(load_config(places), first_retry_spread_seconds=60.0))
            agent.reload()
            first.drop()
            await until(lambda: agent.status().link == "waiting")
            (tmp_path / "go").touch()
            await until(lambda: agent.status().jobs_running == 0)
            agent.reload()
            second = await hub.peer(2)
            hello = second.frames[0]
            assert isinstance(hello, Hello)
            assert [(job.command_id, job.state) for job in hello.jobs] == [(own_id("job-1"), JobState.FINISHED)]
            await second.first(CommandResult)
            assert [frame.offset for frame in second.all(CommandOutput)] == [len("before\n")]
    assert hub.output == {(own_id("job-1"), "stdout"): b"before\nafter\n"}


async def test_a_result_the_hub_did_not_take_is_told_in_the_next_session(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(acknowledges=False)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.send(fleet.command(fleet.envelope(own_id("job-1"), ["true"])))
            result = await first.first(CommandResult)
            hub.acknowledges = True
            first.drop()
            second = await hub.peer(2)
            assert await second.first(CommandResult) == result
            await until(lambda: agent.status().jobs_unreported == 0)


async def test_a_result_the_hub_lost_after_acknowledging_it_is_told_again(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.send(fleet.command(fleet.envelope(own_id("job-1"), ["true"])))
            result = await first.first(CommandResult)
            await until(lambda: agent.status().jobs_unreported == 0)
            hub.welcome = {"jobs": [own_id("job-1"), "never-heard-of"]}
            first.drop()
            assert await (await hub.peer(2)).first(CommandResult) == result


async def test_a_job_goes_on_while_its_agent_is_stopped_and_the_next_one_tells_its_true_end(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places, keeps_executor=True):
            first = await hub.peer(1)
            script = f"echo before; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo after; exit 7"
            await first.send(fleet.command(fleet.envelope(own_id("job-1"), ["sh", "-c", script])))
            await first.first(CommandOutput)
        await first.first(Goodbye)
        assert not first.all(CommandResult)
        (tmp_path / "go").touch()
        async with alive(places):
            second = await hub.peer(2)
            result = await second.first(CommandResult)
    assert [job.command_id for job in second.all(Hello)[0].jobs] == [own_id("job-1")]
    assert (result.reason, result.exit_code) == (CommandReason.EXIT_CODE, 7)
    assert hub.output == {(own_id("job-1"), "stdout"): b"before\nafter\n"}


async def test_a_cancelled_job_ends(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("job-1"), ["sleep", "60"])))
            await peer.first(CommandStarted)
            await peer.send(CommandCancel(command_id=own_id("job-1")))
            await peer.send(CommandCancel(command_id="unheard-of"))
            result = await peer.first(CommandResult)
            assert (result.status, result.reason) == (CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON)
            assert (await peer.first(CommandState)).state is JobState.UNKNOWN


async def test_heartbeats_pass_a_job_that_floods_the_hub_with_output(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(heartbeat_seconds=1, acknowledges=False, credits={"live": 8, "backfill": 8, "events": 8, "output": 4})
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("job-1"), ["sh", "-c", "yes | head -c 30000000"])))
            await peer.several(4, CommandOutput)
            await peer.several(2, Heartbeat)
            assert len(peer.all(CommandOutput)) == 4
            assert peer.all(CommandResult) == []
            held = len(hub.output[own_id("job-1"), "stdout"])
            hub.acknowledges = True
            ack = CommandOutputAck(
                command_id=own_id("job-1"), stream=peer.all(CommandOutput)[0].stream, offset=held, credits=4
            )
            await peer.send(ack)
            result = await peer.first(CommandResult)
    assert result.truncated
    assert result.output_bytes == {"stdout": 30_000_000}
    assert b"bytes left out" in hub.output[own_id("job-1"), "stdout"]
    assert 1024 * 1024 - 200 < len(hub.output[own_id("job-1"), "stdout"]) <= 1024 * 1024
