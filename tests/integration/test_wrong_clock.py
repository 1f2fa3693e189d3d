"""A machine whose clock is wrong: its offset is shown, said as an alert, and taken off the times of its samples."""

from __future__ import annotations

from pathlib import Path

from protocol.frames import HeartbeatAck, MetricsAck
from tests.integration.hub import RunningHub
from tests.integration.machine import connected, enroll, heartbeat, metrics, now_ms, sample
from tests.integration.person import Person, known_to

HOUR_MS = 3_600_000


async def test_a_wrong_clock_is_shown_and_corrected_until_it_is_right(
    either_hub: RunningHub, watcher: Person, folder: Path
) -> None:
    identity = await enroll(either_hub, folder, "ahead")
    await known_to(watcher, identity.agent_id)
    async with connected(either_hub, identity.tls()) as agent:
        await agent.greet(clock_ms=now_ms() + HOUR_MS)
        alert = await watcher.take("agent:alert", lambda alert: alert["agentId"] == identity.agent_id)
        assert (alert["type"], alert["severity"], alert["state"]) == ("clock", "WARNING", "OPEN")
        ahead = sample(1)
        await agent.send(metrics(ahead))
        await agent.take(MetricsAck)
        (newest,) = (await watcher.do("metrics:newest", agentId=identity.agent_id))["metrics"]
        assert abs(ahead.ts - HOUR_MS - newest["timestamp"]) < HOUR_MS / 2
        shown = (await watcher.do("agents:get", agentId=identity.agent_id))["agent"]
        assert abs(shown["clockOffsetMs"] - HOUR_MS) < HOUR_MS / 2
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
        alert = await watcher.take("agent:alert", lambda alert: alert["agentId"] == identity.agent_id)
        assert (alert["type"], alert["state"]) == ("clock", "RESOLVED")
