"""Bad attempts to join: each is refused clearly, and nothing is changed by it."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub_server.enrollment.keys import OrganisationKey
from protocol.identity import EnrollmentToken
from protocol.limits import HTTP_BODY_MAX_BYTES
from tests.clocks import FakeClock
from tests.integration.hub import RunningHub
from tests.integration.machine import (
    Identity,
    Key,
    enroll,
    enroll_body,
    own_address,
)
from tests.integration.person import Person

LONG_AGO = FakeClock(datetime(2026, 1, 5, tzinfo=UTC))


async def refused_enrollment(hub: RunningHub, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the error of an attempt to join; bytes are sent as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    async with (
        hub.machine(own_address()) as session,
        session.post("/api/v1/agent/enroll", data=raw, headers=headers) as answer,
    ):
        error: dict[str, Any] = (await answer.json())["error"]
        return answer.status, error


async def join(hub: RunningHub, token: str) -> None:
    body = enroll_body(token, Key().csr_pem())
    async with hub.machine(own_address()) as session, session.post("/api/v1/agent/enroll", json=body) as answer:
        assert answer.status == 200


async def spent_token(hub: RunningHub) -> str:
    text = await hub.mint()
    await join(hub, text)
    return text


async def revoked_token(hub: RunningHub, person: Person) -> str:
    made = await person.do("tokens:create")
    await person.do("tokens:revoke", tokenId=made["token"]["id"])
    text: str = made["tokenText"]
    return text


def mistyped(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def with_other_secret(text: str) -> str:
    known = EnrollmentToken.parse(text)
    return EnrollmentToken(known.id, EnrollmentToken.generate(known.pin).secret, known.pin).text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unknown", "unknown"),
        ("wrong secret", "unknown"),
        ("used", "used already"),
        ("expired", "expired"),
        ("revoked", "revoked"),
        ("another hub's", "another hub"),
        ("mistyped", "checksum"),
        ("no token at all", "not an enrollment token"),
        ("empty", "not an enrollment token"),
    ],
)
async def test_a_token_that_is_no_good_is_refused_with_the_reason(
    hub: RunningHub, person: Person, kind: str, words: str
) -> None:
    texts = {
        "unknown": EnrollmentToken.generate(hub.authority.root_pin).text,
        "wrong secret": with_other_secret(await hub.mint()),
        "used": await spent_token(hub),
        "expired": await hub.mint(clock=LONG_AGO, ttl_sec=60),
        "revoked": await revoked_token(hub, person),
        "another hub's": EnrollmentToken.generate(bytes(16)).text,
        "mistyped": mistyped(await hub.mint()),
        "no token at all": "letmein",
        "empty": "",
    }
    before = await hub.rows()
    status, error = await refused_enrollment(hub, enroll_body(texts[kind], Key().csr_pem()))
    assert (status, error["code"], error["path"]) == (401, "token_refused", "$.token")
    assert words in error["message"]
    assert not await hub.changed_since(before)


async def test_who_guesses_tokens_is_slowed_down(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    body = enroll_body(EnrollmentToken.generate(hub.authority.root_pin).text, Key().csr_pem())
    address, statuses = own_address(), []
    async with hub.machine(address) as session:
        for _ in range(8):
            async with session.post("/api/v1/agent/enroll", json=body) as answer:
                statuses.append(answer.status)
                if answer.status == 429:
                    assert int(answer.headers["Retry-After"]) >= 1
    assert statuses[:5] == [401] * 5
    assert 429 in statuses


async def test_a_key_of_another_agent_is_refused(hub: RunningHub, folder: Path) -> None:
    known = await enroll(hub, folder)
    key = Key(known.key.read_bytes())
    text = await hub.mint()
    before = await hub.rows()
    status, error = await refused_enrollment(hub, enroll_body(text, key.csr_pem()))
    assert (status, error["code"]) == (409, "key_in_use")
    assert not await hub.changed_since(before)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"sysinfo": {"hostname": "x"}}, "$.sysinfo"),
        ({"sysinfo": {"hostname": "", "os": "linux"}}, "$.sysinfo.hostname"),
        ({"sysinfo": {"hostname": "a\0b", "os": "linux"}}, "$"),
        ({"agent_version": 7}, "$.agent_version"),
        ({"token": None}, "$.token"),
        ({"csr_pem": "x" * 20000}, "$.csr_pem"),
    ],
)
async def test_a_wrong_field_is_named(
    hub: RunningHub, identity: Identity, unchanged: None, change: dict[str, Any], path: str
) -> None:
    status, error = await refused_enrollment(hub, {**enroll_body("t", "c"), **change})
    assert (status, error["code"], error["path"]) == (400, "invalid_request", path)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"no json", {}, 400),
        (b"", {}, 400),
        (b"[]", {}, 400),
        (b'{"token": NaN}', {}, 400),
        (b'{"token": "\\ud800"}', {}, 400),
        (b"\xff\xfe{}", {}, 400),
        (b"[" * 60000, {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 400),
        (gzip.compress(b"{}"), {"Content-Encoding": "gzip"}, 400),
        (b" " * (HTTP_BODY_MAX_BYTES + 1), {}, 413),
    ],
    ids=["no JSON", "empty", "array", "NaN", "surrogate", "no UTF-8", "deep", "no JSON type", "compressed", "large"],
)
async def test_a_bad_body_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, body: bytes, headers: dict[str, str], status: int
) -> None:
    answered, error = await refused_enrollment(hub, body, **headers)
    assert answered == status
    assert error["code"] == ("too_large" if status == 413 else "invalid_request")


async def test_a_csr_that_is_none_leaves_the_token_good(hub: RunningHub) -> None:
    text = await hub.mint()
    before = await hub.rows()
    status, error = await refused_enrollment(hub, enroll_body(text, "-----BEGIN nothing-----"))
    assert (status, error["code"]) == (400, "invalid_request")
    assert not await hub.changed_since(before)
    await join(hub, text)


@pytest.mark.parametrize(
    "key",
    ["", "itsk_x", "itsk_unknown1.7n42DGM5Tflk9n8mt7Fhc7", OrganisationKey.generate().text],
    ids=["empty", "short", "malformed", "unknown"],
)
async def test_an_organisation_key_that_nobody_made_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, key: str
) -> None:
    async with (
        hub.machine(own_address()) as session,
        session.post("/api/agents/register", json={}, headers={"X-API-Key": key}) as answer,
    ):
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "token_refused"


@pytest.mark.parametrize("path", ["/api/v1/agent/enroll", "/api/agents/register", "/api/v1/agent/recover"])
async def test_bad_attempts_at_one_way_in_close_them_all(
    hub: RunningHub, identity: Identity, unchanged: None, path: str
) -> None:
    bodies = {
        "/api/v1/agent/enroll": enroll_body(EnrollmentToken.generate(hub.authority.root_pin).text, Key().csr_pem()),
        "/api/agents/register": {},
        "/api/v1/agent/recover": {
            "certificate_pem": "none",
            "csr_pem": "none",
            "signed_at_ms": 0,
            "signature": "none",
            "agent_version": "1",
            "boot_id": "b",
        },
    }
    async with hub.machine(own_address()) as session:
        statuses = []
        for _ in range(6):
            async with session.post(path, json=bodies[path]) as answer:
                statuses.append(answer.status)
        assert statuses == [401] * 5 + [429]
        for other, body in bodies.items():
            async with session.post(other, json=body) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"], error["retryAfterSec"]) == (429, "rate_limited", 1)
                assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/agent-dashboard.html",
        "/assets/index.js",
        "/api/v1/auth/sign-in",
        "/api/v1/agent/recover/",
        "/api/agents",
        "/api/agents/register/",
        "/api/v1/agent/ca/..%2f..%2fhub.db",
        "/ws/agents/",
        "/ws/agents/?EIO=4&transport=polling",
        "/socket.io/",
    ],
)
async def test_nothing_else_is_open_on_the_agents_port(hub: RunningHub, path: str) -> None:
    async with hub.machine(own_address()) as session:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            async with session.request(method, path) as answer:
                assert answer.status == 401
                assert (await answer.json())["error"]["code"] == "unauthenticated"
