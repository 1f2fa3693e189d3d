"""Desired state, policy and configuration over a real connection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.config import save_config
from agent_client.paths import Places
from protocol.desired import AgentConfig
from protocol.enumerations import (
    CommandOutcome,
    DesiredName,
)
from protocol.frames import (
    CommandResult,
    Desired,
    DesiredApplied,
    DesiredRejected,
    Goodbye,
    Heartbeat,
    Hello,
)
from tests.agent_client.alive import alive
from tests.agent_client.fleet import Fleet, own_id
from tests.agent_client.hub import Hub, running

pytestmark = pytest.mark.usefixtures("hurried")


def desired(name: DesiredName, body: Any, hash_: str = "h1") -> Desired:
    return Desired(name=name, hash=hash_, body=msgspec.to_builtins(body, str_keys=True))


async def test_desired_state_is_applied_remembered_and_named_in_the_next_hello(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
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
    async with running(fleet, tmp_path, Hub()) as hub:
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
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        own = places.config / "local-policy.json"
        own.touch(mode=0o600)
        own.write_text('{"allowed_actions": []}')
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("job-1"), ["true"])))
            assert (await peer.first(CommandResult)).rule == "action"
            own.write_text('{"allowed_actions": ["exec"]}')
            await peer.send(fleet.command(fleet.envelope(own_id("job-2"), ["true"])))
            await peer.first(CommandResult, lambda result: result.status is CommandOutcome.COMPLETED)
            await peer.send(desired(DesiredName.POLICY, {"version": 2, "allowedActions": []}))
            await peer.first(DesiredApplied)
            await peer.send(fleet.command(fleet.envelope(own_id("job-3"), ["true"])))
            refusal = await peer.first(CommandResult, lambda result: result.command_id == own_id("job-3"))
            assert refusal.rule == "action"


async def test_a_changed_configuration_is_taken_up_and_a_wrong_one_is_not(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
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
