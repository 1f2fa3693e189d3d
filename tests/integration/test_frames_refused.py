"""Frames that are no good: the session ends with a code and the reason, and nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hub_server.gateway.agents import endpoint
from protocol.codec import encode_text
from protocol.elements import Frame
from protocol.frames import Error, HeartbeatAck, Inventory, Refuse
from protocol.limits import FRAME_MAX_BYTES, HELLO_MAX_BYTES, SAMPLES_PER_FRAME_MAX
from tests.integration.hub import RunningHub
from tests.integration.machine import (
    Identity,
    connected,
    enroll,
    greeted,
    heartbeat,
    hello,
    metrics,
    sample,
)
from tests.integration.person import Person, known_to


async def test_no_hello_in_time_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "HELLO_TIMEOUT_SECONDS", 0.3)
    async with connected(hub, identity.tls()) as agent:
        refuse = await agent.take(Refuse)
        assert (refuse.code, refuse.action) == (4408, "retry")
        assert (await agent.ended())[0] == 4408


def hello_with(**changes: Any) -> str:
    return json.dumps({**json.loads(encode_text(hello())), **changes})


@pytest.mark.parametrize(
    ("first", "code", "words"),
    [
        (heartbeat(), 4408, "hello"),
        (b"binary", 4408, "hello"),
        (hello_with(padding="x" * HELLO_MAX_BYTES), 4413, "65536"),
        (hello_with(padding="ä" * (HELLO_MAX_BYTES // 2)).encode().decode("unicode_escape"), 4413, "65536"),
        (hello_with(protocol=[2, 3]), 4426, "speaks protocol 1"),
        (hello_with(protocol=[0, 0]), 4426, "speaks protocol 1"),
        ("hello?", 4400, "not JSON"),
        (hello_with(agentVersion=5), 4400, "$.agentVersion"),
        (hello_with(streams={}), 4400, "$.streams"),
        (hello_with(bootId="a\0b"), 4400, "NUL"),
        ('{"type":"hallo"}', 4400, "hallo"),
    ],
    ids=[
        "a heartbeat",
        "binary",
        "too large",
        "too large in bytes",
        "newer version",
        "older version",
        "no JSON",
        "wrong field",
        "missing field",
        "NUL",
        "unknown type",
    ],
)
async def test_a_first_frame_that_is_no_hello_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, first: Frame | str | bytes, code: int, words: str
) -> None:
    async with connected(hub, identity.tls()) as agent:
        await agent.send(first)
        refuse = await agent.take(Refuse)
        assert refuse.code == code
        assert words in refuse.message
        assert (await agent.ended())[0] == code


@pytest.mark.parametrize("subprotocols", [(), ("jtnt.v2",), ("mqtt", "jtnt.v0")])
async def test_another_subprotocol_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, subprotocols: tuple[str, ...]
) -> None:
    async with connected(hub, identity.tls(), subprotocols=subprotocols) as agent:
        refuse = await agent.take(Refuse)
        assert (refuse.code, refuse.action) == (4426, "fix_config")
        assert (await agent.ended())[0] == 4426


def samples_with(**changes: Any) -> str:
    return json.dumps({**json.loads(encode_text(metrics(sample(1)))), **changes})


def sample_with(**changes: Any) -> str:
    (entry,) = json.loads(encode_text(metrics(sample(1))))["samples"]
    return samples_with(samples=[{**entry, **changes}])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("", "not JSON"),
        ("not json", "not JSON"),
        ("[]", "$"),
        ('{"type": 5}', "$.type"),
        ("{}", "type"),
        (sample_with(seq="one"), "$.samples[0].seq"),
        (sample_with(seq=0), "$.samples[0].seq"),
        (sample_with(metricData={"cpu_percent": {"deep": 1}}), "$.samples[0].metricData"),
        (samples_with(lane="fast"), "$.lane"),
        (samples_with(samples=[]), "$.samples"),
        (encode_text(metrics(*[sample(n + 1) for n in range(SAMPLES_PER_FRAME_MAX + 1)])), "$.samples"),
        (sample_with(metricType="a\0b"), "NUL"),
        (samples_with().replace("12.5", "NaN"), "not JSON"),
        (samples_with().replace("12.5", "Infinity"), "not JSON"),
        (samples_with().replace("12.5", "1e999"), ""),
        (samples_with().replace("12.5", "9" * 30), ""),
        (sample_with(metricType="\ud800"), "not"),
        (
            encode_text(Inventory(hash="h", body={})).replace('"body":{}', '"body":' + '{"a":' * 20 + "1" + "}" * 20),
            "deep",
        ),
        ('{"type":"inventory","hash":"h","body":' + '{"a":' * 40000, ""),
        (encode_text(hello()), "hello"),
    ],
    ids=[
        "empty",
        "no JSON",
        "array",
        "type of no text",
        "no type",
        "wrong field",
        "out of range",
        "wrong value",
        "unknown word",
        "no samples",
        "too many samples",
        "NUL",
        "NaN",
        "infinity",
        "overflow",
        "huge integer",
        "surrogate",
        "too deep",
        "far too deep",
        "second hello",
    ],
)
async def test_a_bad_frame_ends_the_session_with_the_reason(
    hub: RunningHub, identity: Identity, unchanged: None, bad: str, words: str
) -> None:
    async with greeted(hub, identity) as agent:
        await agent.send(bad)
        code, reason = await agent.ended()
        said = " ".join(error.message for error in agent.inbox.held() if isinstance(error, Error))
        assert code == 4400
        assert words in f"{said} {reason}"


async def test_output_that_is_not_base64_though_it_says_so_is_a_bad_frame(
    hub: RunningHub, identity: Identity, unchanged: None
) -> None:
    async with greeted(hub, identity) as agent:
        await agent.send(
            '{"type":"command:output","commandId":"x","stream":"stdout","offset":0,"data":"%%%","encoding":"base64"}'
        )
        assert (await agent.ended())[0] == 4400


async def test_a_binary_frame_is_a_bad_frame(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    async with greeted(hub, identity) as agent:
        await agent.send(encode_text(heartbeat()).encode())
        assert await agent.ended() == (4400, "frames are text")


@pytest.mark.parametrize("size_bytes", [FRAME_MAX_BYTES + 1, 8 * FRAME_MAX_BYTES])
async def test_a_frame_that_is_too_large_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, size_bytes: int
) -> None:
    async with greeted(hub, identity) as agent:
        await agent.send('{"type":"heartbeat","padding":"'.ljust(size_bytes - 2, "x") + '"}')
        code, _ = await agent.ended()
        assert code == (4413 if size_bytes < 2 * FRAME_MAX_BYTES else 1009)


@pytest.mark.parametrize("frame_type", ["dance", "welcome", "command", "metrics:ack"])
async def test_an_unknown_type_is_answered_and_the_session_goes_on(
    hub: RunningHub, identity: Identity, unchanged: None, frame_type: str
) -> None:
    async with greeted(hub, identity) as agent:
        await agent.send(json.dumps({"type": frame_type, "commandId": "x"}))
        error = await agent.take(Error)
        assert (error.code, error.reply_to) == ("unknown_type", frame_type)
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)


async def test_a_stranger_to_a_command_cannot_report_on_it(
    hub: RunningHub, identity: Identity, person: Person, folder: Path
) -> None:
    """The frames carry no identity: an agent that names another's command changes nothing."""
    other = await enroll(hub, folder, "owner")
    await known_to(person, other.agent_id)
    order = await person.do("commands:create", agentId=other.agent_id, commandData={"argv": ["x"]})
    before = await hub.rows()
    async with greeted(hub, identity) as agent:
        for frame in (
            {"type": "command:started", "commandId": order["command"]["id"], "ts": 1},
            {
                "type": "command:output",
                "commandId": order["command"]["id"],
                "stream": "stdout",
                "offset": 0,
                "data": "x",
            },
            {"type": "command:result", "commandId": order["command"]["id"], "status": "COMPLETED"},
        ):
            await agent.send(json.dumps(frame))
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
    assert not await hub.changed_since(before)
