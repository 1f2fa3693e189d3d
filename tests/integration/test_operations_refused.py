"""Bad operations, and those a role may not do: refused clearly, and nothing is changed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from hub_server.access.model import PERMISSIONS, Permission
from protocol.enumerations import Role
from protocol.operations import OPERATIONS
from tests.integration.hub import FAULTS, RunningHub
from tests.integration.machine import Identity
from tests.integration.person import Json, Person, watching

ABSENT: Final = "00000000-0000-4000-8000-000000000000"


def minimal(operation: str, agent_id: str = ABSENT) -> Json:
    """Return the least request of an operation that is well-formed."""
    by_operation: dict[str, Json] = {
        "agents:get": {"agentId": agent_id},
        "agents:update": {"agentId": agent_id, "site": "elsewhere"},
        "agents:delete": {"agentId": agent_id},
        "metrics:query": {"agentIds": [agent_id], "metrics": ["cpu_percent"], "from": 0, "to": 1},
        "alerts:resolve": {"alertId": ABSENT},
        "commands:create": {"agentId": agent_id, "commandData": {"argv": ["x"]}},
        "commands:get": {"commandId": ABSENT},
        "commands:cancel": {"commandId": ABSENT},
        "commands:output": {"commandId": ABSENT, "stream": "stdout"},
        "tokens:revoke": {"tokenId": ABSENT},
        "feed:ack": {"version": 0},
        "auth:refresh": {"token": "x"},
    }
    return by_operation.get(operation, {})


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


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ("agents:get", "$.agentId"),
        ("agents:update", "$.agentId"),
        ("agents:delete", "$.agentId"),
        ("commands:create", "$.agentId"),
        ("commands:get", "$.commandId"),
        ("commands:cancel", "$.commandId"),
        ("commands:output", "$.commandId"),
        ("alerts:resolve", "$.alertId"),
        ("tokens:revoke", "$.tokenId"),
    ],
)
async def test_what_does_not_exist_is_not_found(person: Person, unchanged: None, operation: str, path: str) -> None:
    error = (await person.ask(operation, minimal(operation)))["error"]
    assert (error["code"], error["path"]) == ("not_found", path)


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


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUDITOR, Role.HUB_ADMIN])
async def test_a_role_may_do_what_it_says_and_nothing_else(hub: RunningHub, identity: Identity, role: Role) -> None:
    await hub.add_user(f"a-{role.value}", role)
    token = await hub.sign_in(f"a-{role.value}")
    before = await hub.rows()
    refused = set()
    async with watching(hub, token) as someone:
        for operation in OPERATIONS:
            if operation in {"tokens:create", "auth:refresh"} and operation not in forbidden_to(role):
                continue
            reply = await someone.ask(operation, minimal(operation))
            if not reply["ok"] and reply["error"]["code"] == "forbidden":
                refused.add(operation)
    assert refused == forbidden_to(role)
    assert not await hub.changed_since(before)


def forbidden_to(role: Role) -> set[str]:
    needed = {
        "agents:update": Permission.FLEET_WRITE,
        "agents:delete": Permission.FLEET_DELETE,
        "alerts:resolve": Permission.ALERTS_RESOLVE,
        "commands:create": Permission.COMMANDS_RUN,
        "commands:cancel": Permission.COMMANDS_RUN,
        "commands:list": Permission.COMMANDS_READ,
        "commands:get": Permission.COMMANDS_READ,
        "commands:output": Permission.COMMANDS_READ,
        "tokens:create": Permission.TOKENS_WRITE,
        "tokens:revoke": Permission.TOKENS_WRITE,
        "tokens:list": Permission.TOKENS_READ,
    }
    return {operation for operation, permission in needed.items() if permission not in PERMISSIONS[role]}
