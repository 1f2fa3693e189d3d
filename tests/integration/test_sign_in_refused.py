"""Bad sign-ins, refreshes and access tokens of people: refused clearly, and nothing is changed."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub_server.access.tokens import AccessTokens
from hub_server.clock import SystemClock
from protocol.enumerations import Role
from protocol.limits import HTTP_BODY_MAX_BYTES
from tests.clocks import FakeClock
from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub
from tests.integration.person import Person, refusal_of, watching

SIGN_IN: Final = "/api/v1/auth/sign-in"
REFRESH: Final = "/api/v1/auth/refresh"
SIGN_OUT: Final = "/api/v1/auth/sign-out"
OWN: Final = {"X-Requested-With": "jtnt"}
COOKIE: Final = "jtnt_refresh"


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
        async with asyncio.timeout(30):
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
    status, second = await posted(hub, REFRESH, second)
    assert status == 200
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
