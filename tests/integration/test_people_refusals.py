"""Bad input of people and their programs: each is refused clearly, and nothing is changed by it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub_server.access.model import PERMISSIONS, Permission, Role
from hub_server.access.tokens import AccessTokens
from hub_server.clock import SystemClock
from protocol.frames import Command, MetricsAck
from protocol.limits import HTTP_BODY_MAX_BYTES
from protocol.operations import OPERATIONS
from tests.clocks import FakeClock
from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub
from tests.integration.machine import Identity, enroll, greeted, metrics, sample
from tests.integration.person import Json, Person, known_to, refusal_of, watching

SIGN_IN: Final = "/api/v1/auth/sign-in"
REFRESH: Final = "/api/v1/auth/refresh"
SIGN_OUT: Final = "/api/v1/auth/sign-out"
OWN: Final = {"X-Requested-With": "jtnt"}
COOKIE: Final = "jtnt_refresh"
ABSENT: Final = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="session")
async def identity(hub: RunningHub, token: str, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    joined = await enroll(hub, tmp_path_factory.mktemp("agent"), "asked-about")
    async with watching(hub, token) as person:
        await known_to(person, joined.agent_id)
    return joined


@pytest.fixture
async def unchanged(hub: RunningHub, token: str, identity: Identity) -> AsyncIterator[None]:
    """Compare every row before and after the test."""
    before = await hub.rows()
    yield
    assert not await hub.changed_since(before)


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


# Who is let in.


def unsigned(hub: RunningHub) -> str:
    """The administrator's own claims under `alg: none`."""
    parts = [{"alg": "none"}, {"iss": "jtnt-hub", "aud": "jtnt-people", "sub": "x", "exp": 9999999999}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


async def issued(hub: RunningHub, tokens: AccessTokens, token: str) -> str:
    """Return a token for the administrator that another set of keys or another time makes."""
    claims = hub.access_tokens(SystemClock()).read(token)
    return tokens.issue(user_id=claims.sub, organisation_id=claims.org, role=claims.role, session_id=claims.sid)


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "no token",
        "no text",
        "no token in it",
        "garbage",
        "expired",
        "foreign",
        "unsigned",
        "altered",
        "endless",
    ],
)
async def test_a_bad_access_token_opens_no_socket(hub: RunningHub, token: str, unchanged: None, kind: str) -> None:
    long_ago = FakeClock(datetime(2026, 1, 5, tzinfo=UTC))
    foreign = AccessTokens(Ed25519PrivateKey.generate(), SystemClock(), 600)
    head, body, signature = token.split(".")
    auth: dict[str, Any] = {
        "none": None,
        "no token": {},
        "no text": {"token": 5},
        "no token in it": "token",
        "garbage": {"token": "a.b.c"},
        "expired": {"token": await issued(hub, hub.access_tokens(long_ago), token)},
        "foreign": {"token": await issued(hub, foreign, token)},
        "unsigned": {"token": unsigned(hub)},
        "altered": {"token": f"{head}.{body[:-4]}AAAA.{signature}"},
        "endless": {"token": "x" * 100_000},
    }
    refusal = await refusal_of(hub, auth[kind])
    assert (refusal["message"], refusal["data"]["code"]) == ("unauthenticated", "unauthenticated")


async def test_a_socket_cannot_go_on_as_somebody_else(hub: RunningHub, person: Person) -> None:
    await hub.add_user("somebody-else", Role.VIEWER)
    other = await hub.sign_in("somebody-else")
    assert (await person.ask("auth:refresh", token=other))["error"]["code"] == "unauthenticated"
    assert (await person.ask("auth:refresh", token="x"))["error"]["code"] == "unauthenticated"
    assert (await person.ask("agents:list"))["ok"]


async def test_a_socket_ends_with_the_sign_in_it_was_opened_by(hub: RunningHub, token: str) -> None:
    soon = await issued(hub, hub.access_tokens(SystemClock(), lifetime_seconds=2), token)
    async with watching(hub, soon) as short, watching(hub, soon) as renewed:
        reply = await renewed.do("auth:refresh", token=token)
        assert reply["expiresInSec"] > 60
        async with asyncio.timeout(6):
            await short.gone.wait()
        assert (await renewed.ask("agents:list"))["ok"]


async def test_a_page_of_another_origin_opens_no_socket(hub: RunningHub, token: str, unchanged: None) -> None:
    query = {"EIO": "4", "transport": "polling"}
    async with hub.people() as session:
        for origin in ("https://evil.example", "null", hub.web_url.replace("http", "https")):
            async with session.get("/ws/agents/", params=query, headers={"Origin": origin}) as answer:
                assert answer.status == 400
        async with session.get("/ws/agents/", params=query, headers={"Origin": hub.web_url}) as answer:
            assert answer.status == 200


# Operations.


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


async def test_a_packet_that_is_too_large_ends_only_its_socket(
    hub: RunningHub, person: Person, token: str, unchanged: None
) -> None:
    async with watching(hub, token) as rude:
        await rude.client.emit("agents:list", {"filter": {"text": "x" * 600_000}})
        async with asyncio.timeout(10):
            await rude.gone.wait()
    assert (await person.ask("agents:list"))["ok"]


# Roles and organisations.


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


async def test_a_viewer_hears_nothing_of_commands(hub: RunningHub, person: Person, identity: Identity) -> None:
    await hub.add_user("watches-only", Role.VIEWER)
    async with watching(hub, await hub.sign_in("watches-only")) as viewer:
        created = await person.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["secret"]})
        await person.take("agent:command:status", lambda data: data["commandId"] == created["command"]["id"])
        await person.do("commands:cancel", commandId=created["command"]["id"])
        await person.take("agent:command:result", lambda data: data["commandId"] == created["command"]["id"])
        await viewer.do("agents:list")
        heard = {event.name for event in viewer.inbox.held()}
        assert heard <= {"agents:status", "agent:metrics", "agent:connected", "agent:disconnected", "agent:alert"}


async def test_another_organisation_is_another_world(
    hub: RunningHub, person: Person, identity: Identity, folder: Path
) -> None:
    theirs = await hub.add_organisation("elsewhere")
    await hub.add_user("eve", Role.ORG_ADMIN, theirs)
    command = await person.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["x"]})
    token = await person.do("tokens:create")
    async with watching(hub, await hub.sign_in("eve")) as eve, greeted(hub, identity) as agent:
        await agent.take(Command)
        before = await hub.rows()
        assert (await eve.take("agents:status"))["agents"] == []
        for operation, body in {
            "agents:get": {"agentId": identity.agent_id},
            "agents:update": {"agentId": identity.agent_id, "site": "mine"},
            "agents:delete": {"agentId": identity.agent_id},
            "commands:create": {"agentId": identity.agent_id, "commandData": {"argv": ["x"]}},
            "commands:get": {"commandId": command["command"]["id"]},
            "commands:cancel": {"commandId": command["command"]["id"]},
            "commands:output": {"commandId": command["command"]["id"], "stream": "stdout"},
            "tokens:revoke": {"tokenId": token["token"]["id"]},
        }.items():
            assert (await eve.ask(operation, body))["error"]["code"] == "not_found", operation
        assert (await eve.do("agents:list"))["total"] == 0
        assert (await eve.do("commands:list"))["total"] == 0
        assert (await eve.do("alerts:list"))["total"] == 0
        assert (await eve.do("tokens:list"))["total"] == 0
        query = {"agentIds": [identity.agent_id], "metrics": ["cpu_percent"], "from": 0, "to": 2**50}
        (series,) = (await eve.ask("metrics:query", query))["series"]
        assert series["timestamps"] == []
        assert (await eve.do("feed:subscribe", agentIds=[identity.agent_id]))["agentIds"] == []
        assert not await hub.changed_since(before)
        await agent.send(metrics(sample(1, cpu_percent=99.0)))
        await agent.take(MetricsAck)
        await person.take("agent:alert", lambda data: data["agentId"] == identity.agent_id)
        await eve.do("agents:list")
        assert {event.name for event in eve.inbox.held()} <= {"agents:metrics"}
        assert not [event for event in eve.inbox.held() if event.data["samples"]]


# REST.


@pytest.mark.parametrize("path", [SIGN_IN])
@pytest.mark.parametrize(
    ("body", "headers", "status", "where"),
    [
        (b"no json", {}, 400, "$"),
        (b"", {}, 400, "$"),
        (b"[]", {}, 400, "$"),
        (b"{}", {}, 400, "$"),
        (b'{"username":"ada"}', {}, 400, "$"),
        (b'{"username":5,"password":"x"}', {}, 400, "$.username"),
        (b'{"username":"","password":"x"}', {}, 400, "$.username"),
        (b'{"username":"a\\u0000b","password":"x"}', {}, 400, "$"),
        (b'{"username":"ada","password":NaN}', {}, 400, "$"),
        (b'{"username":"ada","password":"x"}', {"Content-Type": "text/plain"}, 400, "$"),
        (b'{"username":"ada","password":"x"}', {"Content-Type": "application/x-www-form-urlencoded"}, 400, "$"),
        (b'{"username":"ada","password":"x"}', {"Origin": "https://evil.example"}, 403, None),
        (b'{"username":"ada","password":"' + b"x" * HTTP_BODY_MAX_BYTES + b'"}', {}, 413, None),
        (b'{"username":"ada","password":"wrong but long enough"}', {}, 401, None),
        (b'{"username":"nobody","password":"wrong but long enough"}', {}, 401, None),
    ],
)
async def test_a_sign_in_that_is_no_good_is_refused(
    hub: RunningHub, unchanged: None, path: str, body: bytes, headers: dict[str, str], status: int, where: str | None
) -> None:
    async with hub.people() as session:
        headers = {"Content-Type": "application/json", **headers}
        async with session.post(path, data=body, headers=headers) as answer:
            assert answer.status == status
            assert (await answer.json())["error"].get("path") == where
            assert COOKIE not in answer.cookies


async def test_unknown_and_known_names_are_refused_alike(hub: RunningHub, unchanged: None) -> None:
    answers = []
    async with hub.people() as session:
        for name in (ADMINISTRATOR, "nobody"):
            body = {"username": name, "password": "wrong but long enough"}
            async with session.post(SIGN_IN, json=body) as answer:
                answers.append((answer.status, await answer.json()))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("path", "headers", "cookie", "status"),
    [
        (REFRESH, OWN, None, 401),
        (REFRESH, OWN, "jtntr_x.y", 401),
        (REFRESH, OWN, "garbage", 401),
        (REFRESH, {}, None, 403),
        (REFRESH, {**OWN, "Origin": "https://evil.example"}, None, 403),
        (SIGN_OUT, OWN, None, 204),
        (SIGN_OUT, OWN, "jtntr_x.y", 204),
        (SIGN_OUT, {}, None, 403),
        (SIGN_OUT, {**OWN, "Origin": "null"}, None, 403),
    ],
)
async def test_a_refresh_or_sign_out_without_right_is_refused(
    hub: RunningHub, unchanged: None, path: str, headers: dict[str, str], cookie: str | None, status: int
) -> None:
    assert (await posted(hub, path, cookie, headers))[0] == status


async def posted(
    hub: RunningHub, path: str, cookie: str | None, headers: dict[str, str] | None = None
) -> tuple[int, str | None]:
    """Post to a route of the sign-in with this refresh cookie; return the status and the cookie that is set."""
    headers = {**(OWN if headers is None else headers), **({} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"})}
    async with hub.people() as session, session.post(path, headers=headers) as answer:
        return answer.status, answer.cookies[COOKIE].value if COOKIE in answer.cookies else None


async def signed_in(hub: RunningHub) -> tuple[str, str]:
    """Return an access token and a refresh cookie."""
    body = {"username": ADMINISTRATOR, "password": PASSWORD}
    async with hub.people() as session, session.post(SIGN_IN, json=body) as answer:
        cookie = answer.cookies[COOKIE]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        return (await answer.json())["accessToken"], cookie.value


async def test_a_refresh_token_is_good_once_and_its_copy_ends_the_sign_in(hub: RunningHub) -> None:
    access, first = await signed_in(hub)
    status, second = await posted(hub, REFRESH, first)
    assert (status, second == first) == (200, False)
    async with watching(hub, access):
        pass
    assert (await posted(hub, REFRESH, first))[0] == 401  # a copy
    assert (await posted(hub, REFRESH, second))[0] == 401
    assert (await refusal_of(hub, {"token": access}))["message"] == "unauthenticated"


async def test_who_signed_out_is_out(hub: RunningHub) -> None:
    access, cookie = await signed_in(hub)
    async with watching(hub, access):
        pass
    assert (await posted(hub, SIGN_OUT, cookie))[0] == 204
    assert (await posted(hub, REFRESH, cookie))[0] == 401
    assert (await refusal_of(hub, {"token": access}))["message"] == "unauthenticated"


@pytest.mark.parametrize(
    "path", ["/api/agents", "/api/v1/agent/enroll", "/ws/agents/x", "/../hub.db", "/%2e%2e/hub.db"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_people_find_nothing_elsewhere(hub: RunningHub, method: str, path: str) -> None:
    async with hub.people() as session, session.request(method, path) as answer:
        assert answer.status in {400, 404}


async def test_health_and_metrics_answer(hub: RunningHub) -> None:
    async with hub.people() as session:
        for path in ("/healthz", "/readyz"):
            async with session.get(path) as answer:
                assert (answer.status, (await answer.json())["status"]) == (200, "ok")
        async with session.get("/metrics") as answer:
            text = await answer.text()
            assert "jtnt_agents_connected" in text
        async with session.get("/agent-dashboard.html", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (302, "/")
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
