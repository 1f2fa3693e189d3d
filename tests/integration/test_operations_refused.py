"""Bad operations, and those a role may not do: refused clearly, and nothing is changed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from protocol.operations import OPERATIONS
from tests.integration.hub import FAULTS, RunningHub
from tests.integration.matrix import body_of
from tests.integration.permissions import MATRIX
from tests.integration.person import Json, Person, watching

ABSENT: Final = "00000000-0000-4000-8000-000000000000"


def minimal(operation: str) -> Json:
    """Return a request of an operation that is well-formed, about something that does not exist."""
    return body_of(MATRIX[operation], ABSENT, "x")


async def test_an_unknown_operation_is_refused(person: Person, unchanged: None) -> None:
    for name in ("agents:dance", "agents.list", "__class__", "_agents_list", "message", "*", ""):
        reply = await person.ask(name)
        assert (reply["ok"], reply["error"]["code"]) == (False, "unknown_operation")


@pytest.mark.parametrize("name", ["connect", "disconnect"])
async def test_an_event_named_as_the_librarys_own_is_an_unknown_operation(
    hub: RunningHub, token: str, unchanged: None, name: str
) -> None:
    """Else a client could leave the list of those whose sign-in runs out, and listen on."""
    async with watching(hub, token) as sly:
        bodies: list[Any] = [None, {}, "transport close", ({}, {"token": token})]
        for body in bodies:
            reply = await sly.client.call(name, body, timeout=5)
            assert (reply["ok"], reply["error"]["code"]) == (False, "unknown_operation")
        assert (await sly.ask("agents:list"))["ok"]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
async def test_an_unknown_field_is_refused(person: Person, unchanged: None, operation: str) -> None:
    reply = await person.ask(operation, {**minimal(operation), "nonsense": 1})
    assert (reply["error"]["code"], reply["error"]["path"]) == ("invalid_request", "$")
    assert "nonsense" in reply["error"]["message"]


@pytest.mark.parametrize("body", [[], "text", 5, True, [[{}]]])
async def test_a_request_that_is_no_object_is_refused(person: Person, unchanged: None, body: Any) -> None:
    for operation in OPERATIONS:
        assert (await person.ask(operation, body))["error"]["code"] == "invalid_request", operation


@pytest.mark.parametrize(
    ("operation", "body", "path"),
    [
        ("agents:list", {"limit": 0}, "$.limit"),
        ("agents:list", {"limit": "100"}, "$.limit"),
        ("agents:list", {"sort": "shoe size"}, "$.sort"),
        ("agents:list", {"filter": {"status": ["SLEEPY"]}}, "$.filter.status[0]"),
        ("agents:get", {}, "$"),
        ("agents:update", {"agentId": ABSENT, "config": {"sampleIntervalSec": 0}}, "$.config.sampleIntervalSec"),
        ("agents:update", {"agentId": ABSENT, "config": {"sampleInterval": 5}}, "$.config"),
        ("agents:update", {"agentId": ABSENT, "thresholds": {"cpuWarning": 101}}, "$.thresholds.cpuWarning"),
        ("metrics:query", {"agentIds": ["a"], "metrics": ["m"], "from": 2, "to": 1}, "$.from"),
        ("metrics:query", {"agentIds": [], "metrics": ["m"], "from": 1, "to": 2}, "$.agentIds"),
        ("alerts:list", {"state": "open"}, "$.state"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": []}}, "$.commandData.argv"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": ["a", 1]}}, "$.commandData.argv[1]"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": [""]}}, "$.commandData.argv[0]"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": "uname"}}, "$.commandData.argv"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": ["a"], "shell": True}}, "$.commandData"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": ["a"]}, "timeoutSec": 0}, "$.timeoutSec"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": ["a"]}, "commandType": "rm"}, "$.commandType"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"argv": ["a\0b"]}}, "$"),
        ("commands:create", {"agentId": ABSENT, "commandData": {"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}}, "$"),
        ("commands:get", {"commandId": "../etc"}, "$.commandId"),
        ("commands:output", {"commandId": ABSENT, "stream": "stdin"}, "$.stream"),
        ("tokens:create", {"ttlSec": 1}, "$.ttlSec"),
        ("tokens:create", {"tags": ["x", ""]}, "$.tags[1]"),
        ("feed:subscribe", {"limit": 5000}, "$.limit"),
        ("feed:ack", {"version": -1}, "$.version"),
    ],
)
async def test_a_wrong_field_of_an_operation_is_named(
    person: Person, unchanged: None, operation: str, body: Json, path: str
) -> None:
    error = (await person.ask(operation, body))["error"]
    assert (error["code"], error["path"]) == ("invalid_request", path), error


@pytest.mark.parametrize("operation", [name for name, row in MATRIX.items() if row.thing and row.other == "not_found"])
async def test_what_does_not_exist_is_not_found(person: Person, unchanged: None, operation: str) -> None:
    error = (await person.ask(operation, minimal(operation)))["error"]
    assert (error["code"], error["path"]) == ("not_found", f"$.{MATRIX[operation].field}")


async def test_a_packet_that_is_no_json_harms_nobody_else(
    hub: RunningHub, person: Person, token: str, unchanged: None
) -> None:
    for packet in ('2["agents:list",NaN]', '2["agents:list",{"limit":', "2[", "21", '2[{"a":1}]', "9", "51-[]"):
        async with watching(hub, token) as rude:
            await rude.client.eio.send(packet)
            assert (await person.ask("agents:list"))["ok"]
    FAULTS.clear()  # the library itself tells of such packets as errors


async def test_a_packet_that_is_too_large_ends_only_its_socket(
    hub: RunningHub, person: Person, token: str, unchanged: None
) -> None:
    async with watching(hub, token) as rude:
        await rude.client.emit("agents:list", {"filter": {"text": "x" * 600_000}})
        async with asyncio.timeout(30):
            await rude.gone.wait()
    assert (await person.ask("agents:list"))["ok"]
