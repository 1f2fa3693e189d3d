"""The agent's side of the wire against a real wss server with client certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.agent import Agent
from agent_client.config import load_config, save_config
from agent_client.paths import Places
from agent_client.spool.database import Database
from agent_client.spool.spool import Spool, SpoolBound
from protocol.codes import CloseCode
from protocol.desired import AgentConfig
from protocol.enumerations import (
    CommandOutcome,
    CommandReason,
    DesiredName,
    GoodbyeReason,
    JobState,
    Lane,
    RefusalAction,
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
    Desired,
    DesiredApplied,
    DesiredRejected,
    Drain,
    Error,
    Event,
    Goodbye,
    Heartbeat,
    Hello,
    Metrics,
    MetricsAck,
    Refuse,
)
from tests.agent_client.clock import SteppingClock
from tests.agent_client.door import Door, listening
from tests.agent_client.fleet import AGENT, Fleet, Signer, now_ms
from tests.agent_client.hub import Hub, Peer, running

WAIT_SECONDS = 10.0


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.inside(tmp_path / "agent")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second for the first sample's baseline."""
    monkeypatch.setattr("agent_client.collectors.sampling._BASELINE_SECONDS", 0.01)


@asynccontextmanager
async def hub_of(fleet: Fleet, folder: Path, hub: Hub | None = None) -> AsyncIterator[Hub]:
    async with running(fleet, folder, hub or Hub()) as started:
        yield started


@asynccontextmanager
async def alive(places: Places) -> AsyncIterator[Agent]:
    """Run the whole agent of `places`, and stop it orderly."""
    agent = Agent(places, load_config(places), SteppingClock())
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run(), name="agent")
        try:
            yield agent
        finally:
            agent.stop()


async def until(fact: Callable[[], Any]) -> None:
    """Wait for what only shows in the agent's own state."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not fact():  # noqa: ASYNC110  the agent has no event for it
            await asyncio.sleep(0.005)


def spooled(places: Places, lane: str, count: int) -> None:
    """Fill the spool as an agent without a hub does."""
    database = Database(places.database)
    spool = Spool(database, SteppingClock(), SpoolBound(2**26, 72 * 3600), owner=AGENT)
    for number in range(count):
        spool.append_sample(lane, now_ms() - 1000 * (count - number), "system", {"n": number})  # type: ignore[arg-type]
    database.close()


async def test_a_session_begins_with_hello_and_a_heartbeat_that_describes_the_machine(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            hello = peer.frames[0]
            assert isinstance(hello, Hello)
            assert hello.capabilities == ["exec"]
            assert hello.streams.live.epoch != hello.streams.backfill.epoch
            heartbeat = await peer.first(Heartbeat)
            assert heartbeat.sysinfo is not None
            assert heartbeat.sysinfo.hostname
            sample = (await peer.first(Metrics)).samples[0]
            assert sample.metric_type == "system"
            assert sample.metric_data["cpu_count"]
            await until(lambda: agent.status().last_heartbeat_ms)
            assert agent.status().link == "connected"
        goodbye = await peer.first(Goodbye)
        assert goodbye.reason is GoodbyeReason.SHUTDOWN


async def test_the_machine_is_described_again_only_every_tenth_heartbeat(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path, Hub(heartbeat_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            beats = await (await hub.peer()).several(3, Heartbeat)
    assert [beat.sysinfo is not None for beat in beats[:3]] == [True, False, False]


async def test_acknowledged_samples_leave_the_spool_and_the_others_come_again_with_the_same_sequence(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(acknowledges=False, sample_seconds=1)
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            frame = (await first.several(2, Metrics, lambda frame: frame.lane is Lane.LIVE))[0]
            await first.send(
                MetricsAck(epoch=frame.epoch, lane=frame.lane, ranges=[(frame.samples[0].seq,) * 2], credits=8)
            )
            await until(lambda: agent.status().spool.waiting["live"] == 1)
            hub.acknowledges = True
            first.drop()
            second = await hub.peer(2)
            again = await second.first(Metrics, lambda frame: frame.lane is Lane.LIVE)
            assert (again.epoch, again.lane) == (frame.epoch, Lane.LIVE)
            assert again.samples[0].seq == 2
            assert hub.received.count(("live", frame.epoch, 2)) == 2
            await until(lambda: agent.status().spool.waiting["live"] == 0)


async def test_what_was_taken_without_a_session_comes_as_backfill_in_full_frames_under_its_credits(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(acknowledges=False, credits={"live": 8, "backfill": 2, "events": 8}, sample_seconds=60)
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        spooled(places, "backfill", 1000)
        async with alive(places) as agent:
            peer = await hub.peer()
            frames = await peer.several(2, Metrics, lambda frame: frame.lane is Lane.BACKFILL)
            await peer.first(Metrics, lambda frame: frame.lane is Lane.LIVE)
            assert [len(frame.samples) for frame in frames] == [200, 200]
            hub.acknowledges = True
            for frame in frames:
                ranges = [(frame.samples[0].seq, frame.samples[-1].seq)]
                await peer.send(MetricsAck(epoch=frame.epoch, lane=frame.lane, ranges=ranges, credits=2))
            await until(lambda: agent.status().spool.waiting["backfill"] == 0)
    numbers = [sample.metric_data.get("n") for (lane, _, _), sample in hub.stored.items() if lane == "backfill"]
    assert numbers[:1000] == list(range(1000))
    assert len(hub.received) == len(set(hub.received))


async def test_a_stream_without_credits_is_silent_and_the_heartbeats_go_on(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(heartbeat_seconds=1, credits={"live": 0, "backfill": 0, "events": 0})
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.several(2, Heartbeat)
            assert agent.status().spool.waiting["live"] >= 1
            assert peer.all(Metrics) == []
            epoch = agent._spool.epoch("live")
            await peer.send(MetricsAck(epoch=epoch, lane=Lane.LIVE, ranges=[], credits=1))
            await peer.first(Metrics)


async def test_a_killed_hub_is_found_again_and_nothing_is_lost_or_doubled(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(sample_seconds=1)
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.first(Metrics)
            first.drop()
            await until(lambda: agent.status().link != "connected")
            second = await hub.peer(2)
            hello = second.frames[0]
            assert isinstance(hello, Hello)
            assert hello.last_disconnect is not None
            assert hello.last_disconnect.code == 1006
            await second.first(Metrics)
    live = sorted(seq for lane, _, seq in hub.stored if lane == "live")
    assert live == list(range(1, len(live) + 1))


async def test_a_new_life_of_the_agent_keeps_epochs_and_says_how_the_last_session_ended(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        hellos = []
        for number in (1, 2):
            async with alive(places):
                peer = await hub.peer(number)
                await peer.first(Metrics)
                hellos.append(peer.all(Hello)[0])
    assert hellos[0].last_disconnect is None
    assert hellos[1].last_disconnect is not None
    assert hellos[1].last_disconnect.reason == "shutdown"
    assert hellos[1].streams.live.epoch == hellos[0].streams.live.epoch
    assert hellos[1].streams.live.newest >= 1


async def test_a_hub_that_says_nothing_for_three_heartbeats_is_dropped(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(heartbeat_seconds=1, answers_heartbeats=False, acknowledges=False)
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await hub.peer(1)
            agent._cadence.heartbeat_seconds = 0.1
            await hub.peer(2)
            assert "silent" in agent.status().last_end


@pytest.mark.parametrize(
    ("action", "is_slow"),
    [(RefusalAction.RETRY, False), (RefusalAction.NEVER, True), (RefusalAction.RE_ENROLL, True)],
)
async def test_a_refused_agent_does_what_it_is_told_and_never_ends(
    fleet: Fleet, places: Places, tmp_path: Path, action: RefusalAction, is_slow: bool
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.send(Refuse(code=4403, message="quarantined", action=action))
        await peer.connection.close(4403, "quarantined")

    hub = Hub(instead_of_welcome=refuse)
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await hub.peer(1)
            if not is_slow:
                await hub.peer(2)
                return
            await until(lambda: agent.status().next_attempt_ms)
            status = agent.status()
            assert status.next_attempt_ms is not None
            assert status.next_attempt_ms - now_ms() > 600_000
            assert "quarantined" in status.advice
            assert status.spool.waiting["events"] == 1
            hub.instead_of_welcome = None
            agent.reload()
            peer = await hub.peer(2)
            event = await peer.first(Event)
            assert (event.kind, event.data["code"]) == ("connection_refused", 4403)


@pytest.mark.parametrize("code", [CloseCode.IDENTITY_UNKNOWN, CloseCode.REVOKED])
async def test_a_close_code_that_needs_a_person_goes_to_the_slow_lane(
    fleet: Fleet, places: Places, tmp_path: Path, code: CloseCode
) -> None:
    async def close(peer: Peer) -> None:
        await peer.connection.close(code, "no")

    async with hub_of(fleet, tmp_path, Hub(instead_of_welcome=close)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000


async def test_a_hub_of_another_fleet_is_not_spoken_to(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(Fleet(), tmp_path, Hub(), client_root=fleet.root.pem) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "not this fleet's hub" in agent.status().advice
            assert hub.peers == []


async def test_a_certificate_that_the_hub_refuses_goes_to_the_slow_lane(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    with listening(Door(fleet), tmp_path / "server", only_clients_of=Fleet()) as door:
        fleet.enroll_by_hand(places, door.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "refused this agent's certificate (tlsv1 alert" in agent.status().advice
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000


async def test_a_hub_that_hangs_up_without_an_alert_is_tried_again(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub(), client_root=Fleet().root.pem) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "may not accept this agent's certificate" in agent.status().advice
            assert (agent.status().next_attempt_ms or 0) - now_ms() < 1000


async def test_an_expired_certificate_goes_to_the_slow_lane(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port, days=-1)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000
            assert "expired" in agent.status().advice


async def test_a_key_that_others_may_read_is_not_used(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        (places.certs / "client.key").chmod(0o644)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "chmod 600" in agent.status().advice
            assert hub.peers == []


async def test_a_drained_agent_comes_back_in_its_slot(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer(1)
            await peer.first(Heartbeat)
            await peer.send(Drain(over_sec=600, slot_sec=300))
            await until(lambda: agent.status().next_attempt_ms)
            wait_ms = (agent.status().next_attempt_ms or 0) - now_ms()
            assert 290_000 < wait_ms <= 360_000


async def test_a_job_is_run_reported_and_forgotten_by_both(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope("job-1", ["echo", "hello"])))
            result = await peer.first(CommandResult)
            assert result.status is CommandOutcome.COMPLETED
            await until(lambda: agent.status().jobs_unreported == 0)
            await peer.send(CommandQuery(command_id="job-1"))
            await peer.send(CommandQuery(command_id="job-2"))
            states = await peer.several(2, CommandState)
            assert [state.state for state in states] == [JobState.FINISHED, JobState.UNKNOWN]
    assert hub.output == {("job-1", "stdout"): b"hello\n"}
    order = [type(frame) for frame in peer.frames if type(frame).__name__.startswith("Command")]
    assert order[:4] == [CommandAccepted, CommandStarted, CommandOutput, CommandResult]


async def test_a_forged_job_is_refused_with_its_rule(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            mark = tmp_path / "mark"
            await peer.send(fleet.command(fleet.envelope("job-1", ["touch", str(mark)]), Signer()))
            result = await peer.first(CommandResult)
    assert (result.reason, result.rule) == (CommandReason.DENIED_BY_AGENT, "unknown_key")
    assert not mark.exists()


async def test_a_job_goes_on_while_the_hub_is_away_and_its_output_resumes_at_the_right_byte(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            script = f"echo before; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo after"
            await first.send(fleet.command(fleet.envelope("job-1", ["sh", "-c", script])))
            await first.first(CommandOutput)
            await until(lambda: agent._jobs.open["job-1"].acked)
            save_config(places, msgspec.structs.replace(load_config(places), first_retry_spread_seconds=60.0))
            agent.reload()
            first.drop()
            await until(lambda: agent.status().link == "waiting")
            (tmp_path / "go").touch()
            await until(lambda: agent._jobs.open["job-1"].result)
            agent.reload()
            second = await hub.peer(2)
            hello = second.frames[0]
            assert isinstance(hello, Hello)
            assert [(job.command_id, job.state) for job in hello.jobs] == [("job-1", JobState.FINISHED)]
            await second.first(CommandResult)
            assert [frame.offset for frame in second.all(CommandOutput)] == [len("before\n")]
    assert hub.output == {("job-1", "stdout"): b"before\nafter\n"}


async def test_a_result_the_hub_did_not_take_is_told_in_the_next_session(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(acknowledges=False)
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.send(fleet.command(fleet.envelope("job-1", ["true"])))
            result = await first.first(CommandResult)
            hub.acknowledges = True
            first.drop()
            second = await hub.peer(2)
            assert await second.first(CommandResult) == result
            await until(lambda: agent.status().jobs_unreported == 0)


async def test_a_result_the_hub_lost_after_acknowledging_it_is_told_again(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.send(fleet.command(fleet.envelope("job-1", ["true"])))
            result = await first.first(CommandResult)
            await until(lambda: agent.status().jobs_unreported == 0)
            hub.welcome = {"jobs": ["job-1", "never-heard-of"]}
            first.drop()
            assert await (await hub.peer(2)).first(CommandResult) == result


async def test_a_stopping_agent_kills_its_jobs_and_tells_the_hub_before_it_goes(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope("job-1", ["sleep", "60"])))
            await peer.first(CommandStarted)
        result = await peer.first(CommandResult)
        await peer.first(Goodbye)
    assert result.reason is CommandReason.INTERRUPTED


async def test_a_cancelled_job_ends(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope("job-1", ["sleep", "60"])))
            await peer.first(CommandStarted)
            await peer.send(CommandCancel(command_id="job-1"))
            await peer.send(CommandCancel(command_id="unheard-of"))
            result = await peer.first(CommandResult)
            assert (result.status, result.reason) == (CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON)
            assert (await peer.first(CommandState)).state is JobState.UNKNOWN


async def test_heartbeats_pass_a_job_that_floods_the_hub_with_output(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(heartbeat_seconds=1, acknowledges=False)
    async with hub_of(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope("job-1", ["sh", "-c", "yes | head -c 30000000"])))
            await peer.several(16, CommandOutput)
            await peer.several(3, Heartbeat)
            assert len(peer.all(CommandOutput)) == 16
            held = len(hub.output["job-1", "stdout"])
            hub.acknowledges = True
            ack = CommandOutputAck(
                command_id="job-1", stream=peer.all(CommandOutput)[0].stream, offset=held, credits=16
            )
            await peer.send(ack)
            result = await peer.first(CommandResult)
    assert result.truncated
    assert len(hub.output["job-1", "stdout"]) == 1024 * 1024


def desired(name: DesiredName, body: Any, hash_: str = "h1") -> Desired:
    return Desired(name=name, hash=hash_, body=msgspec.to_builtins(body, str_keys=True))


async def test_desired_state_is_applied_remembered_and_named_in_the_next_hello(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer(1)
            await peer.send(desired(DesiredName.CONFIG, AgentConfig(sample_interval_sec=7, metrics_enabled=False)))
            assert (await peer.first(DesiredApplied)).name is DesiredName.CONFIG
            assert agent.status().sample_interval_seconds == 7
            await peer.send(desired(DesiredName.TRUST, fleet.trust(version=2), "h2"))
            await peer.several(2, DesiredApplied)
        async with alive(places) as agent:
            hello = (await hub.peer(2)).all(Hello)[0]
            assert (hello.hashes.config, hello.hashes.policy, hello.hashes.trust) == ("h1", "", "h2")
            assert not agent._cadence.metrics_enabled


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (lambda _: desired(DesiredName.CONFIG, {"sampleIntervalSec": 0}), "sampleIntervalSec"),
        (lambda _: desired(DesiredName.POLICY, {"allowedActions": "exec"}), "allowedActions"),
        (lambda _: desired(DesiredName.TRUST, Fleet().trust(version=2)), "not signed by this fleet's root"),
        (lambda fleet: desired(DesiredName.TRUST, fleet.trust(version=1)), "never goes back"),
        (lambda fleet: desired(DesiredName.TRUST, fleet.trust(version=2, trust_domain="x")), "is for 'x'"),
        (lambda _: desired(DesiredName.SCHEDULE, {}), "does not apply"),
    ],
)
async def test_desired_state_that_must_not_be_is_rejected_and_changes_nothing(
    fleet: Fleet, places: Places, tmp_path: Path, offer: Callable[[Fleet], Desired], reason: str
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        before = {path: path.read_bytes() for path in places.state.glob("*.json")}
        async with alive(places):
            peer = await hub.peer()
            await peer.send(offer(fleet))
            rejected = await peer.first(DesiredRejected)
        assert reason in rejected.reason
        assert {path: path.read_bytes() for path in places.state.glob("*.json")} == before


async def test_a_policy_takes_effect_and_the_machines_own_can_only_narrow_it(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        fleet.enroll_by_hand(places, hub.port)
        own = places.config / "local-policy.json"
        own.touch(mode=0o600)
        own.write_text('{"allowed_actions": []}')
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope("job-1", ["true"])))
            assert (await peer.first(CommandResult)).rule == "action"
            own.write_text('{"allowed_actions": ["exec"]}')
            await peer.send(fleet.command(fleet.envelope("job-2", ["true"])))
            await peer.first(CommandResult, lambda result: result.status is CommandOutcome.COMPLETED)
            await peer.send(desired(DesiredName.POLICY, {"version": 2, "allowedActions": []}))
            await peer.first(DesiredApplied)
            await peer.send(fleet.command(fleet.envelope("job-3", ["true"])))
            assert (await peer.first(CommandResult, lambda result: result.command_id == "job-3")).rule == "action"


async def test_what_the_agent_does_not_understand_is_answered_and_the_session_stays(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path, Hub(heartbeat_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.first(Heartbeat)
            for text in ('{"type":"tomorrow"}', "{", '{"type":"command:cancel"}'):
                await peer.connection.send(text)
            errors = await peer.several(3, Error)
            await peer.several(2, Heartbeat)
    assert [error.code for error in errors] == ["unknown_type", "bad_frame", "bad_frame"]


async def test_a_changed_configuration_is_taken_up_and_a_wrong_one_is_not(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with hub_of(fleet, tmp_path) as hub:
        config = fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            first = await hub.peer(1)
            await first.first(Heartbeat)
            (places.config / "config.json").write_text("{}")
            agent.reload()
            assert agent.config == config
            moved = msgspec.structs.replace(config, websocket_url=f"{config.websocket_url}?moved")
            save_config(places, moved)
            agent.reload()
            await first.first(Goodbye)
            second = await hub.peer(2)
            assert "moved" in (second.connection.request.path if second.connection.request else "")


async def test_a_failing_collector_is_said_once_and_stops_nothing(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name = "broken"

        def collect(self) -> dict[str, Any]:
            raise OSError("no such sensor")

    async with hub_of(fleet, tmp_path, Hub(sample_seconds=1)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            agent._sampler._collectors = [Broken(), *agent._sampler._collectors]
            peer = await hub.peer()
            event = await peer.first(Event)
            assert (event.kind, event.data["collector"]) == ("collector_failing", "broken")
            before = len(peer.all(Metrics))
            await peer.several(before + 1, Metrics)
            assert agent.status().failing_collectors == ["broken"]
            assert len(peer.all(Event)) == 1
