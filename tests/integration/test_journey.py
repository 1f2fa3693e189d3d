"""What an agent and a dashboard live through together, on either database."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

from hub_server.telemetry.tables import AgentReportRow
from protocol.enumerations import CommandOutcome, DesiredName, GoodbyeReason, JobState, OutputStream
from protocol.frames import (
    Command,
    CommandAccepted,
    CommandCancel,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandResultAck,
    CommandStarted,
    Desired,
    DesiredApplied,
    DesiredRejected,
    Event,
    EventAck,
    Goodbye,
    HeartbeatAck,
    JobProgress,
    MetricsAck,
    StateHashes,
)
from protocol.limits import FEED_LAG_MAX
from tests.integration.hub import RunningHub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.machine import (
    AgentSocket,
    Key,
    connected,
    enroll,
    enroll_body,
    greeted,
    heartbeat,
    metrics,
    now_ms,
    own_address,
    sample,
)
from tests.integration.person import Json, Person, known_to, watching


def of(agent_id: str) -> Callable[[Json], bool]:
    return lambda data: data["agentId"] == agent_id


async def test_a_machine_joins_and_is_welcomed(either_hub: RunningHub, watcher: Person, folder: Path) -> None:
    first = await watcher.take("agents:status", lambda status: not status["delta"])
    assert first["counts"].keys() >= {"active", "offline", "openAlerts", "pendingCommands"}
    identity = await enroll(either_hub, folder, "joins")
    delta = await watcher.take("agents:status", lambda status: any(a["hostname"] == "joins" for a in status["agents"]))
    assert delta["delta"]
    assert delta["version"] > first["version"]
    (shown,) = [agent for agent in delta["agents"] if agent["id"] == identity.agent_id]
    assert (shown["status"], shown["statusReason"], shown["ipAddresses"]) == (
        "OFFLINE",
        "never_connected",
        ["192.0.2.7"],
    )
    async with connected(either_hub, identity.tls()) as agent:
        welcome = await agent.greet()
        assert (welcome.protocol, welcome.next_heartbeat_sec, welcome.sample_interval_sec) == (1, 30, 10)
        assert abs(welcome.server_time_ms - now_ms()) < 5000
        assert welcome.credits["live"] > 0
        assert {DesiredName.CONFIG, DesiredName.POLICY, DesiredName.TRUST} <= welcome.desired.keys()
        event = await watcher.take("agent:connected", of(identity.agent_id))
        assert event["hostname"] == "joins"
        await watcher.take("agents:status", lambda status: any(a["status"] == "ACTIVE" for a in status["agents"]))
        await agent.send(heartbeat(clock_ms=1234567))
        answer = await agent.take(HeartbeatAck)
        assert (answer.ok, answer.echo_clock_ms, answer.next_heartbeat_sec) == (True, 1234567, 30)
        await agent.send(Goodbye(reason=GoodbyeReason.UPDATE))
    gone = await watcher.take("agent:disconnected", of(identity.agent_id))
    assert gone["reason"] == "update"


async def test_a_lost_answer_of_enrollment_is_given_again(either_hub: RunningHub) -> None:
    key, text = Key(), await either_hub.mint()
    replies = []
    async with either_hub.machine(own_address()) as session:
        for _ in range(2):
            async with session.post("/api/v1/agent/enroll", json=enroll_body(text, key.csr_pem())) as answer:
                assert answer.status == 200
                replies.append(await answer.json())
    assert replies[0]["client_cert_pem"] == replies[1]["client_cert_pem"]
    assert replies[0]["agent_id"] == replies[1]["agent_id"]


async def test_an_acknowledged_sample_is_in_the_database(either_hub: RunningHub, watcher: Person, folder: Path) -> None:
    identity = await enroll(either_hub, folder, "samples")
    async with greeted(either_hub, identity) as agent:
        await agent.send(metrics(sample(1, cpu_percent=21.5), sample(2), sample(3)))
        ack = await agent.take(MetricsAck)
        stored = await watcher.stored_samples(identity.agent_id)
        assert (ack.status, ack.ranges, stored) == ("received", [(1, 3)], 3)
        event = await watcher.take("agent:metrics", of(identity.agent_id))
        assert event["metricType"] == "system"
        assert event["metricData"]["memory_percent"] == 40.0
        await agent.send(metrics(sample(2), sample(3), sample(4)))
        again = await agent.take(MetricsAck)
        assert again.ranges == [(2, 4)]
        assert await watcher.stored_samples(identity.agent_id) == 4
    async with connected(either_hub, identity.tls()) as agent:
        welcome = await agent.greet()
        assert welcome.acks["live"].epoch == 7
        assert welcome.acks["live"].ranges == [(1, 4)]
        await agent.send(metrics(sample(1), epoch=8))  # a new spool: its sequences are other ones
        await agent.take(MetricsAck)
    assert await watcher.stored_samples(identity.agent_id) == 5


async def test_a_report_is_stored_once_and_listed(either_hub: RunningHub, watcher: Person, folder: Path) -> None:
    identity = await enroll(either_hub, folder, "reports")
    report = Event(epoch=7, seq=1, ts=now_ms(), kind="gap", data={"stream": "live", "dropped": 3})
    async with greeted(either_hub, identity) as agent:
        for _ in range(2):
            await agent.send(report)
            ack = await agent.take(EventAck)
            assert ack.ranges == [(1, 1)]
    assert await either_hub.count(AgentReportRow, agent_id=identity.agent_id) == 1
    listed = await watcher.do("reports:list", agentId=identity.agent_id)
    assert [(each["kind"], each["data"]) for each in listed["reports"]] == [("gap", {"stream": "live", "dropped": 3})]


async def test_history_is_there_to_ask_for(either_hub: RunningHub, watcher: Person, folder: Path) -> None:
    identity = await enroll(either_hub, folder, "history")
    async with greeted(either_hub, identity) as agent:
        await agent.send(metrics(sample(1, cpu_percent=11.0), sample(2, cpu_percent=13.0)))
        await agent.take(MetricsAck)
    reply = await watcher.do(
        "metrics:query",
        agentIds=[identity.agent_id],
        metrics=["cpu_percent"],
        **{"from": now_ms() - 60_000, "to": now_ms() + 1000},
    )
    (series,) = reply["series"]
    assert sum(series["values"]["cpu_percent"]) in {24.0, 12.0}


async def test_an_alert_opens_with_the_sample_and_resolves_later(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "alerts")
    async with greeted(either_hub, identity) as agent:
        await agent.send(metrics(sample(1, cpu_percent=95.0)))
        opened = await watcher.take("agent:alert", of(identity.agent_id))
        assert (opened["type"], opened["severity"], opened["state"]) == ("cpu", "CRITICAL", "OPEN")
        assert "95" in opened["message"]
        listed = await watcher.do("alerts:list", agentId=identity.agent_id, state="OPEN")
        assert [alert["id"] for alert in listed["alerts"]] == [opened["alertId"]]
        await agent.send(metrics(sample(2, cpu_percent=96.0), sample(3, cpu_percent=5.0)))
        resolved = await watcher.take("agent:alert", of(identity.agent_id))
        assert (resolved["alertId"], resolved["state"]) == (opened["alertId"], "RESOLVED")
        await agent.send(metrics(sample(4, cpu_percent=85.0)))
        warned = await watcher.take("agent:alert", of(identity.agent_id))
        assert (warned["severity"], warned["state"]) == ("WARNING", "OPEN")
        closed = await watcher.do("alerts:resolve", alertId=warned["alertId"])
        assert closed["alert"]["resolvedBy"] == "user:ada"
        by_hand = await watcher.take("agent:alert", of(identity.agent_id))
        assert by_hand["state"] == "RESOLVED"


async def test_a_command_runs_and_its_output_arrives(either_hub: RunningHub, watcher: Person, folder: Path) -> None:
    identity = await enroll(either_hub, folder, "commands")
    async with greeted(either_hub, identity) as agent:
        request = {"agentId": identity.agent_id, "commandData": {"argv": ["uname", "-a"]}, "idempotencyKey": "once"}
        created = (await watcher.ask("commands:create", request))["command"]
        order = await agent.take(Command)
        assert order.command_id == created["id"]
        assert json.loads(base64.b64decode(order.payload))["argv"] == ["uname", "-a"]
        assert await statuses(watcher, created["id"], 2) == ["PENDING", "SENT"]
        await carry_out(agent, order.command_id, b"Linux \xc3\xa4\n")
        assert (await watcher.take("agent:command:status", of_command(created["id"])))["status"] == "EXECUTING"
        output = await watcher.take("agent:command:output", of_command(created["id"]))
        assert (output["offset"], output["data"], output["stream"]) == (0, "Linux ä\n", "stdout")
        result = await watcher.take("agent:command:result", of_command(created["id"]))
        assert (result["status"], result["exitCode"]) == ("COMPLETED", 0)
        stored = await watcher.do("commands:output", commandId=created["id"], stream="stdout", offset=6)
        assert (stored["data"], stored["complete"], stored["nextOffset"]) == ("ä\n", True, 9)
        again = await watcher.ask("commands:create", request)
        assert again["command"]["id"] == created["id"]
        assert again["command"]["status"] == "COMPLETED"
        other = {**request, "commandData": {"argv": ["reboot"]}}
        assert (await watcher.ask("commands:create", other))["error"]["code"] == "conflict"
        late = CommandResult(command_id=created["id"], status=CommandOutcome.FAILED, exit_code=1)
        await agent.send(late)
        await agent.take(CommandResultAck)
        assert (await watcher.do("commands:get", commandId=created["id"]))["command"]["status"] == "COMPLETED"


async def test_a_command_waits_for_its_agent_and_is_sent_again_until_accepted(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "waits")
    await known_to(watcher, identity.agent_id)
    created = (await watcher.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["true"]}))[
        "command"
    ]
    assert created["status"] == "PENDING"
    async with greeted(either_hub, identity) as agent:
        order = await agent.take(Command)
    async with connected(either_hub, identity.tls()) as agent:  # it was sent, and lost with the connection
        welcome = await agent.greet()
        assert welcome.jobs == [created["id"]]
        assert (await agent.take(Command)).payload == order.payload
        await agent.send(CommandAccepted(command_id=order.command_id, ts=now_ms()))
        await carry_out(agent, order.command_id, b"")
    async with connected(either_hub, identity.tls()) as agent:
        assert (await agent.greet()).jobs == []


async def test_output_goes_on_where_it_stopped(either_hub: RunningHub, watcher: Person, folder: Path) -> None:
    identity = await enroll(either_hub, folder, "resumes")
    await known_to(watcher, identity.agent_id)
    created = (await watcher.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["x"]}))["command"]
    async with greeted(either_hub, identity) as agent:
        await agent.take(Command)
        await agent.send(CommandStarted(command_id=created["id"], ts=now_ms()))
        await agent.send(chunk(created["id"], 0, "abc"))
        assert (await agent.take(CommandOutputAck)).offset == 3
    running = JobProgress(command_id=created["id"], state=JobState.STARTED, offsets={OutputStream.STDOUT: 6})
    async with greeted(either_hub, identity, jobs=[running]) as agent:
        await agent.send(chunk(created["id"], 0, "abcdef"))
        assert (await agent.take(CommandOutputAck)).offset == 6
        await agent.send(chunk(created["id"], 9, "jkl"))  # a gap: the hub says where to go on
        assert (await agent.take(CommandOutputAck)).offset == 6
        await agent.send(CommandResult(command_id=created["id"], status=CommandOutcome.COMPLETED, exit_code=0))
        await agent.take(CommandResultAck)
    stored = await watcher.do("commands:output", commandId=created["id"], stream="stdout", offset=0)
    assert stored["data"] == "abcdef"


async def test_a_cancel_reaches_the_agent(either_hub: RunningHub, watcher: Person, folder: Path) -> None:
    identity = await enroll(either_hub, folder, "cancels")
    await known_to(watcher, identity.agent_id)
    waiting = (await watcher.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["a"]}))["command"]
    cancelled = await watcher.do("commands:cancel", commandId=waiting["id"])
    assert (cancelled["command"]["status"], cancelled["command"]["reason"]) == ("CANCELLED", "cancelled_by_person")
    async with greeted(either_hub, identity) as agent:
        running = await watcher.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["b"]})
        order = await agent.take(Command)
        assert order.command_id == running["command"]["id"]  # not the cancelled one
        await agent.send(CommandStarted(command_id=order.command_id, ts=now_ms()))
        await watcher.take("agent:command:status", lambda data: data["status"] == "EXECUTING")
        await watcher.do("commands:cancel", commandId=order.command_id)
        assert (await agent.take(CommandCancel)).command_id == order.command_id
        await agent.send(CommandResult(command_id=order.command_id, status=CommandOutcome.CANCELLED))
        await agent.take(CommandResultAck)
        result = await watcher.take("agent:command:result", of_command(order.command_id))
        assert result["status"] == "CANCELLED"


async def test_a_configuration_is_offered_until_it_is_applied(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "desired")
    async with greeted(either_hub, identity) as agent:
        await agent.take(Desired, lambda offer: offer.name is DesiredName.CONFIG)
        updated = await watcher.do("agents:update", agentId=identity.agent_id, config={"sampleIntervalSec": 3})
        assert (updated["config"]["sampleIntervalSec"], updated["configApplied"]) == (3, False)
        offer = await agent.take(Desired, lambda offer: offer.body.get("sampleIntervalSec") == 3)
        await agent.send(DesiredRejected(name=DesiredName.CONFIG, hash=offer.hash, reason="a test says no"))
        refused = await watcher.take("agents:status", lambda status: shows(status, identity.agent_id, "ERROR"))
        assert refused["delta"]
    watcher.inbox.clear()
    async with connected(either_hub, identity.tls()) as agent:
        welcome = await agent.greet()
        assert (welcome.sample_interval_sec, welcome.desired[DesiredName.CONFIG]) == (3, offer.hash)
        again = await agent.take(Desired, lambda desired: desired.name is DesiredName.CONFIG)
        assert again.hash == offer.hash
        await agent.send(DesiredApplied(name=DesiredName.CONFIG, hash=offer.hash))
        await watcher.take("agents:status", lambda status: shows(status, identity.agent_id, "ACTIVE"))
        assert (await watcher.do("agents:get", agentId=identity.agent_id))["configApplied"]
    async with greeted(either_hub, identity, hashes=StateHashes(config=offer.hash)) as agent:
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
        assert not agent.inbox.held(lambda frame: isinstance(frame, Desired) and frame.name is DesiredName.CONFIG)


async def test_a_deleted_agent_is_sent_away_and_stays_out(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "deleted")
    async with greeted(either_hub, identity) as agent:
        await agent.send(metrics(sample(1)))
        await agent.take(MetricsAck)
        await watcher.do("agents:delete", agentId=identity.agent_id)
        assert (await agent.ended())[0] == 4403
    async with connected(either_hub, identity.tls()) as agent:
        assert (await agent.ended())[0] in {4401, 4403}
    gone = await watcher.take("agents:status", lambda status: identity.agent_id in status["removed"])
    assert gone["delta"]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await watcher.stored_samples(identity.agent_id):  # deleted after the answer, in pieces
            await watcher.do("agents:list")
    assert (await watcher.ask("agents:get", agentId=identity.agent_id))["error"]["code"] == "not_found"


async def test_a_feed_takes_out_who_lags_and_brings_a_snapshot(
    either_hub: RunningHub, either_token: str, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "feed")
    async with (
        greeted(either_hub, identity) as agent,
        watching(either_hub, either_token) as viewer,
        watching(either_hub, either_token) as diligent,
    ):
        await agent.send(metrics(sample(1, cpu_percent=1.0)))
        await viewer.take("agent:metrics", of(identity.agent_id))
        reply = await viewer.do("feed:subscribe", agentIds=[identity.agent_id], metrics=["cpu_percent"])
        assert reply["agentIds"] == [identity.agent_id]
        snapshot = await viewer.take("agents:metrics")
        assert snapshot["snapshot"]
        assert [entry["metricData"] for entry in snapshot["samples"]] == [{"cpu_percent": 1.0}]
        await agent.send(metrics(sample(2, cpu_percent=2.0)))
        batch = await viewer.take("agents:metrics")
        assert (batch["version"], batch["snapshot"]) == (reply["version"] + 1, False)
        assert batch["samples"][0]["metricData"] == {"cpu_percent": 2.0}
        assert not viewer.held("agent:metrics", of(identity.agent_id))
        await viewer.do("feed:ack", version=batch["version"])
        await diligent.do("feed:subscribe", agentIds=[identity.agent_id], metrics=["cpu_percent"])
        await lag(agent, viewer, diligent, batch["version"])
        await viewer.do("feed:ack", version=batch["version"])
        back = await viewer.take("agents:metrics", lambda data: data["snapshot"])
        assert back["samples"][0]["metricData"] == {"cpu_percent": 90.5}


async def lag(agent: AgentSocket, viewer: Person, diligent: Person, confirmed: int) -> None:
    """Let batches come that `viewer` does not confirm, until only `diligent` is sent the next one."""
    newest = confirmed + FEED_LAG_MAX + 2
    for version in range(confirmed + 1, newest + 1):
        await agent.send(metrics(sample(version + 100, cpu_percent=90.5 if version == newest else 3.0)))
        await diligent.take("agents:metrics", is_version(version))
        await diligent.do("feed:ack", version=version)
        if version < newest:
            await viewer.take("agents:metrics", is_version(version))
    await viewer.do("agents:list")  # what was sent to it before this answer is here by now
    assert not viewer.held("agents:metrics")


def is_version(version: int) -> Callable[[Json], bool]:
    return lambda data: data["version"] == version and not data["snapshot"]


def chunk(command_id: str, offset: int, data: str) -> CommandOutput:
    return CommandOutput(command_id=command_id, stream=OutputStream.STDOUT, offset=offset, data=data)


async def carry_out(agent: AgentSocket, command_id: str, output: bytes) -> None:
    await agent.send(CommandStarted(command_id=command_id, ts=now_ms()))
    await agent.send(chunk(command_id, 0, output.decode()))
    assert (await agent.take(CommandOutputAck)).offset == len(output)
    await agent.send(CommandResult(command_id=command_id, status=CommandOutcome.COMPLETED, exit_code=0))
    assert (await agent.take(CommandResultAck)).command_id == command_id


async def statuses(person: Person, command_id: str, count: int) -> list[str]:
    return [(await person.take("agent:command:status", of_command(command_id)))["status"] for _ in range(count)]


def of_command(command_id: str) -> Callable[[Json], bool]:
    return lambda data: data["commandId"] == command_id


def shows(status: Json, agent_id: str, expected: str) -> bool:
    return any(agent["id"] == agent_id and agent["status"] == expected for agent in status["agents"])
