"""The real agent obeys only what the hub signed: what changes between database and agent runs nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from hub_server.commands.model import Command as StoredCommand
from hub_server.commands.views import frame_of
from protocol.frames import Command
from protocol.identity import EnrollmentToken, JoinString
from tests.integration.hub import RunningHub, running_hub
from tests.integration.person import Person, known_to, watching
from tests.servers.postgres import free_port
from tests.system.programs import RealAgent, enrolled

Tamper = Callable[[Command, Path], Command]


@pytest.fixture(scope="module")
async def real_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """A hub on ports that are known before it starts: an agent is told the address at enrollment."""
    folder = tmp_path_factory.mktemp("hub")
    async with running_hub(folder, people_port=free_port(), agents_port=free_port()) as hub:
        yield hub


@pytest.fixture(scope="module")
async def real_agent(real_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealAgent]:
    token = EnrollmentToken.parse(await real_hub.mint())
    join = JoinString("127.0.0.1", real_hub.settings.agents.port, token)
    async with enrolled(tmp_path_factory.mktemp("agent") / "data", join.text) as agent:
        await agent.start()
        yield agent


@pytest.fixture
async def person(real_hub: RunningHub, real_agent: RealAgent) -> AsyncIterator[Person]:
    async with watching(real_hub, await real_hub.sign_in()) as watcher:
        await known_to(watcher, real_agent.agent_id)
        yield watcher


def with_other_argv(frame: Command, trace: Path) -> Command:
    order = json.loads(base64.b64decode(frame.payload))
    altered = base64.b64encode(json.dumps({**order, "argv": ["touch", str(trace)]}).encode()).decode()
    return msgspec.structs.replace(frame, payload=altered)


def with_one_bit_flipped(frame: Command, _trace: Path) -> Command:
    payload = bytearray(base64.b64decode(frame.payload))
    payload[-2] ^= 1
    return msgspec.structs.replace(frame, payload=base64.b64encode(payload).decode())


def with_a_later_expiry_in_the_order(frame: Command, _trace: Path) -> Command:
    order = json.loads(base64.b64decode(frame.payload))
    altered = base64.b64encode(json.dumps({**order, "expiresAt": order["expiresAt"] + 1}).encode()).decode()
    return msgspec.structs.replace(frame, payload=altered)


def without_signature(frame: Command, _trace: Path) -> Command:
    return msgspec.structs.replace(frame, signatures=[])


def with_a_payload_that_is_no_base64(frame: Command, _trace: Path) -> Command:
    return msgspec.structs.replace(frame, payload="%%%")


@pytest.mark.parametrize(
    "tamper",
    [
        with_other_argv,
        with_one_bit_flipped,
        with_a_later_expiry_in_the_order,
        without_signature,
        with_a_payload_that_is_no_base64,
    ],
)
async def test_an_order_altered_on_the_way_is_refused(
    real_agent: RealAgent, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tamper: Tamper
) -> None:
    trace = tmp_path / "trace"

    def altered(command: StoredCommand) -> Command:
        return tamper(frame_of(command), trace)

    monkeypatch.setattr("hub_server.commands.ledger.frame_of", altered)
    created = await person.do("commands:create", agentId=real_agent.agent_id, commandData={"argv": ["true"]})
    result = await person.take("agent:command:result", is_of(created["command"]["id"]))
    assert (result["status"], result["reason"]) == ("FAILED", "denied_by_agent")
    assert result["result"]
    assert not trace.exists()
    assert not person.held("agent:command:status", lambda data: data["status"] == "EXECUTING")


async def test_what_people_read_of_an_order_is_not_what_is_obeyed(
    real_agent: RealAgent, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"

    def altered(command: StoredCommand) -> Command:
        return msgspec.structs.replace(frame_of(command), command_data={"argv": ["touch", str(trace)]})

    monkeypatch.setattr("hub_server.commands.ledger.frame_of", altered)
    data = {"argv": ["echo", "as signed"]}
    created = await person.do("commands:create", agentId=real_agent.agent_id, commandData=data)
    result = await person.take("agent:command:result", is_of(created["command"]["id"]))
    assert result["status"] == "COMPLETED"
    output = await person.do("commands:output", commandId=created["command"]["id"], stream="stdout")
    assert output["data"] == "as signed\n"
    assert not trace.exists()


async def test_an_untouched_order_runs(real_agent: RealAgent, person: Person, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    data = {"argv": ["touch", str(trace)]}
    created = await person.do("commands:create", agentId=real_agent.agent_id, commandData=data)
    result = await person.take("agent:command:result", is_of(created["command"]["id"]))
    assert (result["status"], result["exitCode"]) == ("COMPLETED", 0)
    assert trace.exists()


def is_of(command_id: str) -> Callable[[dict[str, object]], bool]:
    return lambda data: data["commandId"] == command_id
