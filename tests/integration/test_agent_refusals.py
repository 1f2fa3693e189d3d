"""Bad input on the agents' port: each is refused clearly, and nothing is changed by it."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.exceptions import InvalidHandshake, InvalidStatus

from hub_server.clock import SystemClock
from hub_server.gateway.agents import endpoint
from hub_server.pki.authority import Authority
from protocol.codec import encode_text
from protocol.frames import Error, Frame, HeartbeatAck, Inventory, Refuse
from protocol.identity import EnrollmentToken
from protocol.limits import FRAME_MAX_BYTES, HELLO_MAX_BYTES, HTTP_BODY_MAX_BYTES, SAMPLES_PER_FRAME_MAX
from tests.clocks import FakeClock
from tests.integration.hub import RunningHub
from tests.integration.machine import (
    Identity,
    Key,
    connected,
    enroll,
    enroll_body,
    greeted,
    heartbeat,
    hello,
    metrics,
    own_address,
    sample,
    tls_with,
)
from tests.integration.person import Person, known_to

LONG_AGO = FakeClock(datetime(2026, 1, 5, tzinfo=UTC))


@pytest.fixture(scope="session")
async def identity(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The one agent that all these tests speak as."""
    joined = await enroll(hub, tmp_path_factory.mktemp("agent"), "refused")
    async with greeted(hub, joined):
        return joined


@pytest.fixture
async def unchanged(hub: RunningHub, identity: Identity) -> AsyncIterator[None]:
    """Compare every row before and after the test."""
    before = await hub.rows()
    yield
    assert not await hub.changed_since(before)


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


# Tokens.


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


async def test_an_organisation_key_is_refused(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    async with (
        hub.machine(own_address()) as session,
        session.post("/api/agents/register", json={}, headers={"X-API-Key": "itsk_x"}) as answer,
    ):
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "token_refused"


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
        "/api/v1/agent/recover",
        "/api/agents",
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


# Certificates.


async def test_without_a_certificate_there_is_no_socket(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(hub, tls_with(hub.authority.root_pem)):
            raise AssertionError("let in without a certificate")
    assert refused.value.response.status_code == 401


async def assert_shut_out(hub: RunningHub, tls: ssl.SSLContext) -> None:
    """A certificate that the handshake refuses: TLS 1.3 says so with the client's first read."""
    with pytest.raises((ssl.SSLError, ConnectionError, InvalidHandshake, EOFError)):
        async with connected(hub, tls):
            raise AssertionError("let in with this certificate")


async def test_a_foreign_certificate_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    """Of another authority, for the very name of a known agent."""
    other = Authority.open_or_create(folder / "pki", trust_domain="jtnt", clock=SystemClock())
    key = Key()
    issued = other.issue_agent_certificate(identity.name(), key.csr_pem())
    await assert_shut_out(hub, tls_of(hub, folder, issued.pem, key.pem))


async def test_a_certificate_of_a_public_kind_is_refused(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    context = tls_with(hub.authority.root_pem)
    trustme.CA().issue_cert("agent@example.com").configure_cert(context)
    await assert_shut_out(hub, context)


async def test_a_certificate_that_the_agent_signed_itself_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    await assert_shut_out(
        hub, tls_of(hub, folder, pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    )


async def test_the_hubs_own_certificate_opens_nothing(hub: RunningHub, identity: Identity, unchanged: None) -> None:
    context = tls_with(hub.authority.root_pem, hub.settings.pki_dir / "server.pem", hub.settings.pki_dir / "server.pem")
    await assert_shut_out(hub, context)


async def test_an_expired_certificate_is_refused(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    key = Key()
    issued = hub.authority_at(LONG_AGO).issue_agent_certificate(identity.name(), key.csr_pem())
    await assert_shut_out(hub, tls_of(hub, folder, issued.pem, key.pem))


async def test_a_certificate_that_was_never_issued_means_enroll_again(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    """Signed by the hub's own authority, for a known agent, yet in no table: a stolen key made it."""
    key = Key()
    issued = hub.authority.issue_agent_certificate(identity.name(), key.csr_pem())
    async with connected(hub, tls_of(hub, folder, issued.pem, key.pem)) as agent:
        refuse = await agent.take(Refuse)
        assert (refuse.code, refuse.action) == (4401, "re_enroll")
        assert (await agent.ended())[0] == 4401


def tls_of(hub: RunningHub, folder: Path, certificate_pem: str, key_pem: bytes) -> ssl.SSLContext:
    (folder / "made.crt").write_text(certificate_pem)
    (folder / "made.key").write_bytes(key_pem)
    return tls_with(hub.authority.root_pem, folder / "made.crt", folder / "made.key")


# The first frame.


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


# Later frames.


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
