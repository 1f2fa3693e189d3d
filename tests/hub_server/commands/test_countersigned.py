"""Commands that come with a person's own signature: they say what they ask, or they are refused."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub_server.clock import milliseconds
from hub_server.errors import Conflict, Forbidden, InvalidRequest
from protocol.commands import CommandsCreate
from protocol.enumerations import Action
from protocol.envelope import JobEnvelope
from protocol.frames import Command, Signature
from protocol.identity import key_id_of
from tests.hub_server.commands.builders import Hub
from tests.hub_server.commands.conftest import Listener


@dataclass
class Operator:
    """A person with a key, who asks `hub` for commands of `agent_id`."""

    hub: Hub
    agent_id: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        self.hub.signer.operator_keys[self.key_id] = self.key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        return key_id_of(self.key.public_key().public_bytes_raw())

    def envelope(self, **changes: Any) -> JobEnvelope:
        now = milliseconds(self.hub.clock.now())
        values: dict[str, Any] = {
            "job_id": str(uuid.uuid4()),
            "organisation_id": self.hub.organisation_id,
            "agent_id": self.agent_id,
            "action": Action.EXEC,
            "argv": ["uptime"],
            "issued_at": now,
            "expires_at": now + 900_000,
            "timeout_sec": 60.0,
        }
        return JobEnvelope(**values | changes)

    def request(self, envelope: JobEnvelope | bytes | None = None, **changes: Any) -> CommandsCreate:
        payload = envelope if isinstance(envelope, bytes) else msgspec.json.encode(envelope or self.envelope())
        values: dict[str, Any] = {
            "agent_id": self.agent_id,
            "command_data": {"argv": ["uptime"]},
            "payload": base64.b64encode(payload).decode(),
            "signature": Signature(key_id=self.key_id, signature=base64.b64encode(self.key.sign(payload)).decode()),
        }
        return CommandsCreate(**values | changes)

    async def ask(self, envelope: JobEnvelope | bytes | None = None, **changes: Any) -> str:
        reply = await self.hub.service.create(self.hub.principal, self.request(envelope, **changes))
        return reply.command.id


@pytest.fixture
def operator(hub: Hub, agent_id: str) -> Operator:
    return Operator(hub, agent_id)


async def test_both_signatures_travel_over_the_very_bytes(operator: Operator, deliveries: Listener) -> None:
    envelope = operator.envelope(expires_at=operator.envelope().issued_at + 120_000)
    command_id = await operator.ask(envelope, expires_in_sec=120)
    assert command_id == envelope.job_id
    await operator.hub.send(command_id)
    [frame] = await deliveries.frames()
    assert isinstance(frame, Command)
    assert base64.b64decode(frame.payload) == msgspec.json.encode(envelope)
    assert [signature.key_id for signature in frame.signatures] == ["key-1", operator.key_id]
    operator.key.public_key().verify(base64.b64decode(frame.signatures[1].signature), base64.b64decode(frame.payload))
    assert (await operator.hub.get(command_id)).created_by == "user:theo"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"argv": ["reboot"]}, "another argv"),
        ({"agent_id": "agent-2"}, "another agentId"),
        ({"organisation_id": "org-2"}, "another organisationId"),
        ({"action": Action.SCRIPT, "script_sha256": "00"}, "another action"),
        ({"environment": {"PATH": "/tmp"}}, "another environment"),
        ({"working_directory": "/tmp"}, "another workingDirectory"),
        ({"run_as": "root"}, "another runAs"),
        ({"interpreter": "bash"}, "another interpreter"),
        ({"timeout_sec": 61.0}, "another timeoutSec"),
        ({"output_limit_bytes": 1}, "another outputLimitBytes"),
        ({"requested_by": "user:bea"}, "another requestedBy"),
        ({"job_id": "job-1"}, "must be a UUID"),
        ({"job_id": str(uuid.uuid4()).upper()}, "must be a UUID"),
        ({"issued_at": 1}, "before the hub's time"),
        ({"expires_at": 1}, "must expire within 7 days"),
        ({"expires_at": 2**50}, "must expire within 7 days"),
    ],
)
async def test_an_order_that_says_anything_else_is_refused(
    operator: Operator, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        await operator.ask(operator.envelope(**changes), timeout_sec=60)
    assert refused.value.path == "$.payload"


async def test_times_are_the_hubs_within_a_minute_and_those_that_were_asked_for(operator: Operator) -> None:
    now = operator.envelope().issued_at
    for apart_ms in (-60_000, 60_000):
        assert await operator.ask(operator.envelope(issued_at=now + apart_ms))
    for apart_ms in (-60_001, 60_001):
        with pytest.raises(InvalidRequest, match="set your clock"):
            await operator.ask(operator.envelope(issued_at=now + apart_ms))
    with pytest.raises(InvalidRequest, match="expiresInSec"):
        await operator.ask(expires_in_sec=901)


async def test_a_key_that_counts_for_nothing_and_a_signature_that_does_not_fit_are_refused(operator: Operator) -> None:
    request, other = operator.request(), operator.request()
    assert request.signature is not None
    create = operator.hub.service.create
    for changed, error, path in (
        ({"signature": other.signature}, InvalidRequest, "$.signature.signature"),
        ({"payload": other.payload}, InvalidRequest, "$.signature.signature"),
        ({"signature": Signature(key_id=operator.key_id, signature="%")}, InvalidRequest, "$.signature.signature"),
        (
            {"signature": Signature(key_id="key-1", signature=request.signature.signature)},
            Forbidden,
            "$.signature.keyId",
        ),
        ({"signature": None}, InvalidRequest, "$.payload"),
        ({"payload": None}, InvalidRequest, "$.payload"),
        ({"payload": "%"}, InvalidRequest, "$.payload"),
    ):
        with pytest.raises(error) as refused:
            await create(operator.hub.principal, msgspec.structs.replace(request, **changed))
        assert isinstance(refused.value, Forbidden | InvalidRequest)
        assert refused.value.path == path
    operator.hub.signer.operator_keys.clear()
    with pytest.raises(Forbidden, match="revoked"):
        await create(operator.hub.principal, request)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1]", b'{"kind":"jtnt.trust.v1"}'])
async def test_signed_bytes_that_are_no_order_are_refused(operator: Operator, payload: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no order"):
        await operator.ask(payload)


async def test_an_order_with_a_field_that_nobody_knows_is_refused(operator: Operator) -> None:
    with pytest.raises(InvalidRequest, match="unknown field"):
        await operator.ask(msgspec.json.encode(operator.envelope())[:-1] + b',"sudo":true}')


async def test_the_same_order_makes_one_command(operator: Operator) -> None:
    envelope = operator.envelope()
    first = await operator.ask(envelope, idempotency_key="once")
    assert await operator.ask(envelope, idempotency_key="once") == first
    assert await operator.ask(idempotency_key="once") == first  # signed anew, because the answer was lost
    operator.hub.clock.advance(600)
    assert await operator.ask(envelope, idempotency_key="once") == first  # too old to be taken as a new one
    operator.hub.clock.advance(-600)
    for again in ({}, {"idempotency_key": "other"}):
        with pytest.raises(Conflict, match="sign a new order"):
            await operator.ask(envelope, **again)
