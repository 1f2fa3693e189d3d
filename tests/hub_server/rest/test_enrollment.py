import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from protocol.enrollment import EnrollRequest, RecoverRequest, RegisterRequest
from protocol.envelope import SignedTrust
from protocol.limits import HTTP_BODY_MAX_BYTES
from tests.hub_server.rest.conftest import Anchor, Client, Enrollment

PATH = "/api/v1/agent/enroll"
RECOVER = "/api/v1/agent/recover"
REGISTER = "/api/agents/register"
GOOD_RECOVERY: dict[str, Any] = {
    "certificate_pem": "leaf",
    "csr_pem": "csr",
    "signed_at_ms": 5,
    "signature": "good",
    "agent_version": "0.1.0",
    "boot_id": "b",
}
REGISTRATION: dict[str, Any] = {
    "hostname": "server-01",
    "ipAddress": "192.168.1.100",
    "osType": "linux",
    "osVersion": "Ubuntu 22.04",
    "agentVersion": "1.0.0",
    "config": {"collection_interval": 60, "metrics_enabled": True},
    "csrPem": "csr",
}
GOOD: dict[str, Any] = {
    "token": "good",
    "csr_pem": "csr",
    "agent_version": "0.1.0",
    "boot_id": "b",
    "sysinfo": {"hostname": "web-01", "os": "linux", "ip_addresses": ["192.0.2.1"]},
}


async def test_the_ca_is_given_to_anybody_as_it_is_now(agents: Client, anchor: Anchor) -> None:
    for bundle in ("the bundle", "the bundle after a rotation"):
        anchor.ca_bundle_pem = bundle
        anchor.trust = SignedTrust(document=bundle, signatures=[])
        answer = await agents.get("/api/v1/agent/ca")
        trust: dict[str, Any] = {"document": bundle, "signatures": []}
        assert (answer.status, await answer.json()) == (200, {"ca_bundle_pem": bundle, "trust": trust})


async def test_a_machine_that_waits_is_told_when_to_ask_again(agents: Client) -> None:
    for path, body in ((PATH, GOOD | {"token": "waits"}), (RECOVER, GOOD_RECOVERY | {"signature": "waits"})):
        answer = await agents.post(path, json=body)
        assert (answer.status, await answer.json()) == (
            202,
            {"status": "pending", "agent_id": "agent-1", "poll_after_sec": 10},
        )


async def test_a_machine_recovers(agents: Client, enrollment: Enrollment) -> None:
    answer = await agents.post(RECOVER, json=GOOD_RECOVERY)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (await answer.json())["agent_id"] == "agent-1"
    ((request, address),) = enrollment.asked
    assert isinstance(request, RecoverRequest)
    assert (request.signed_at_ms, address) == (5, "127.0.0.1")
    wrong = await agents.post(RECOVER, json=GOOD_RECOVERY | {"signed_at_ms": "now"})
    assert (wrong.status, (await wrong.json())["error"]["path"]) == (400, "$.signed_at_ms")


async def test_a_machine_registers_in_the_words_of_seed_004(agents: Client, enrollment: Enrollment) -> None:
    answer = await agents.post(REGISTER, json=REGISTRATION, headers={"X-API-Key": "itsk_good"})
    body = await answer.json()
    assert (answer.status, body["id"], body["status"]) == (201, "agent-of-key-1", "created")
    assert body["websocketUrl"] == "wss://hub.example/ws/agents"
    ((request, _),) = enrollment.asked
    assert isinstance(request, RegisterRequest)
    assert (request.os_type, request.config) == ("linux", {"collection_interval": 60, "metrics_enabled": True})
    wrong = await agents.post(REGISTER, json=REGISTRATION | {"osType": 5}, headers={"X-API-Key": "itsk_good"})
    assert (wrong.status, (await wrong.json())["error"]["path"]) == (400, "$.osType")


async def test_nothing_of_a_body_is_read_without_an_organisation_key(agents: Client, enrollment: Enrollment) -> None:
    never = asyncio.Event()

    async def endless() -> Any:
        yield b"{"
        await never.wait()

    for headers in ({}, {"X-API-Key": "itsk_x"}, {"Authorization": "Bearer itsk_good"}):
        answer = await agents.post(REGISTER, data=endless(), headers={"Content-Type": "application/json", **headers})
        assert (answer.status, (await answer.json())["error"]["code"]) == (401, "token_refused")
    assert not enrollment.asked


async def test_a_machine_enrolls(agents: Client, enrollment: Enrollment) -> None:
    answer = await agents.post(PATH, json=GOOD)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await answer.json())["agent_id"] == "agent-1"
    request, address = enrollment.asked[0]
    assert isinstance(request, EnrollRequest)
    assert request.sysinfo.ip_addresses == ["192.0.2.1"]
    assert address == "127.0.0.1"


async def test_a_forwarded_address_is_not_believed(agents: Client, enrollment: Enrollment) -> None:
    await agents.post(PATH, json=GOOD, headers={"X-Forwarded-For": "203.0.113.1"})
    assert enrollment.asked[0][1] == "127.0.0.1"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"token": 5}, "$.token"),
        ({"token": "x" * 257}, "$.token"),
        ({"csr_pem": "x" * 16385}, "$.csr_pem"),
        ({"sysinfo": {"hostname": "", "os": "linux"}}, "$.sysinfo.hostname"),
        ({"sysinfo": {"hostname": "h", "os": "o", "cpu_count": -1}}, "$.sysinfo.cpu_count"),
        ({"sysinfo": {"hostname": "h", "os": "o", "ip_addresses": [1]}}, "$.sysinfo.ip_addresses[0]"),
        ({"sysinfo": None}, "$.sysinfo"),
    ],
    ids=str,
)
async def test_a_wrong_field_is_named(
    agents: Client, enrollment: Enrollment, change: dict[str, Any], path: str
) -> None:
    answer = await agents.post(PATH, json=GOOD | change)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["path"]) == (400, "invalid_request", path)
    assert not enrollment.asked


async def test_a_missing_field_is_named(agents: Client) -> None:
    answer = await agents.post(PATH, json={name: value for name, value in GOOD.items() if name != "boot_id"})
    assert "boot_id" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 60_000,
        json.dumps(GOOD | {"boot_id": "a\0b"}).encode(),
        json.dumps(GOOD).encode() + b"x",
    ],
    ids=["empty", "half", "null", "list", "no utf-8", "deep", "nul", "trailing"],
)
async def test_a_bad_body_is_refused(agents: Client, enrollment: Enrollment, body: bytes) -> None:
    answer = await agents.post(PATH, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_request")
    assert not enrollment.asked


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_another_content_type_is_refused(agents: Client, kind: str) -> None:
    answer = await agents.post(PATH, data=json.dumps(GOOD), headers={"Content-Type": kind})
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["path"]) == (400, "invalid_request", "$")


async def test_a_compressed_body_is_refused(agents: Client, enrollment: Enrollment) -> None:
    answer = await agents.post(PATH, json=GOOD, compress="deflate")
    assert "uncompressed" in (await answer.json())["error"]["message"]
    assert not enrollment.asked


async def test_a_body_above_the_limit_is_refused_announced_or_not(agents: Client, enrollment: Enrollment) -> None:
    large = json.dumps(GOOD | {"boot_id": "x" * HTTP_BODY_MAX_BYTES}).encode()

    async def in_pieces() -> Any:
        for start in range(0, len(large), 8192):
            yield large[start : start + 8192]
        await asyncio.Event().wait()  # the answer does not wait for the end

    for body in (large, in_pieces()):
        answer = await agents.post(PATH, data=body, headers={"Content-Type": "application/json"})
        assert (answer.status, (await answer.json())["error"]["code"]) == (413, "too_large")
    assert not enrollment.asked


async def test_a_body_that_never_ends_is_given_up(agents: Client) -> None:
    never = asyncio.Event()

    async def slow() -> Any:
        yield b"{"
        await never.wait()

    answer = await agents.post(PATH, data=slow(), headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert "did not arrive" in (await answer.json())["error"]["message"]


async def test_refusals_have_their_status(agents: Client) -> None:
    refused = await agents.post(PATH, json=GOOD | {"token": "nobody's"})
    assert (refused.status, (await refused.json())["error"]["code"]) == (401, "token_refused")
    limited = await agents.post(PATH, json=GOOD | {"token": "often"})
    assert (limited.status, limited.headers["Retry-After"]) == (429, "17")
    assert (await limited.json())["error"] == {
        "code": "rate_limited",
        "message": "too many wrong attempts",
        "retryAfterSec": 17,
    }


async def test_an_unexpected_error_is_logged_once_and_tells_nothing(agents: Client) -> None:
    with capture_logs() as logs:
        crashed = await agents.post(PATH, json=GOOD | {"token": "crash"})
    assert (crashed.status, (await crashed.json())["error"]["code"]) == (500, "internal")
    assert "secret" not in await crashed.text()
    assert [type(entry["exc_info"]) for entry in logs] == [KeyError]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", PATH),
        ("GET", RECOVER),
        ("PUT", REGISTER),
        ("GET", "/api/agents"),
        ("DELETE", "/api/v1/agent/ca"),
        ("POST", "/api/v1/auth/sign-in"),
    ],
)
async def test_every_other_route_is_closed(agents: Client, method: str, path: str) -> None:
    answer = await agents.request(method, path)
    assert (answer.status, (await answer.json())["error"]["code"]) == (401, "unauthenticated")
