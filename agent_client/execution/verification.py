"""May this order be carried out? A decision without I/O. The questions come in the order of their cost."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from agent_client.trust.document import KeyExpired, KeyRevoked, KeyUnknown, UsableKey, signer_of
from protocol.codec import BadFrame, decode
from protocol.envelope import JobEnvelope, TrustDocument
from protocol.frames import Command, Signature
from protocol.limits import FRAME_MAX_BYTES

SignatureCheck = Callable[[bytes, bytes, bytes], bool]
SIGNATURE_BYTES: Final = 64

_envelope_decoder: Final = msgspec.json.Decoder(JobEnvelope)


class Rule(StrEnum):
    """Which check turned a job down; travels as `rule` of the result."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    TRUST = "trust"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    EXPIRED_KEY = "expired_key"
    SIGNATURE = "signature"
    ORGANISATION = "organisation"
    AGENT = "agent"
    JOB_ID = "job_id"
    EXPIRED = "expired"
    JOURNAL_LOST = "journal_lost"
    ACTION = "action"
    RUN_AS = "run_as"
    SCRIPT = "script"
    TOO_MANY_JOBS = "too_many_jobs"
    JOURNAL = "journal"


class Permitted(Struct, frozen=True):
    envelope: JobEnvelope
    payload: bytes


class Denied(Struct, frozen=True):
    rule: Rule
    message: str


class Audience(Struct, frozen=True):
    """Who this agent is, by its own certificate."""

    organisation_id: str
    agent_id: str


class Grounds(Struct, frozen=True):
    """What a decision rests on.

    `now_ms`: the later of the clock and the persisted high-water mark. `not_before_ms`: orders issued earlier are
    refused, because the journal that would know them is lost; 0 where it is not.
    """

    audience: Audience
    trust: TrustDocument
    is_signed_by: SignatureCheck
    now_ms: int
    allowed_actions: Collection[str]
    not_before_ms: int = 0


def judge(command: Command, grounds: Grounds) -> Permitted | Denied:
    """Return whether `command` may run here and now. The caller has already looked for its id in the journal."""
    if len(command.payload) > FRAME_MAX_BYTES:
        return Denied(Rule.TOO_LARGE, f"the order is larger than {FRAME_MAX_BYTES} bytes")
    try:
        payload = base64.b64decode(command.payload, validate=True)
    except (binascii.Error, ValueError):
        return Denied(Rule.MALFORMED, "the order is not base64")
    refusal = _signature_refusal(payload, command.signatures, grounds)
    if refusal:
        return refusal
    try:
        envelope = decode(_envelope_decoder, payload, FRAME_MAX_BYTES)
    except BadFrame as error:
        return Denied(Rule.MALFORMED, f"the order cannot be read: {error} {error.path}".strip())
    return _content_refusal(command, envelope, grounds) or Permitted(envelope, payload)


def _signature_refusal(payload: bytes, signatures: Iterable[Signature], grounds: Grounds) -> Denied | None:
    """Return None when one signature is good; else what stood against the last one that came closest."""
    refusal = Denied(Rule.SIGNATURE, "the order carries no signature")
    for entry in signatures:
        match signer_of(grounds.trust, entry.key_id, grounds.now_ms):
            case UsableKey(public_key=public_key):
                if grounds.is_signed_by(public_key, _decoded(entry.signature), payload):
                    return None
                refusal = Denied(Rule.SIGNATURE, f"the signature by key {entry.key_id} does not fit the order")
            case KeyUnknown():
                refusal = Denied(Rule.UNKNOWN_KEY, f"this agent does not trust the key {entry.key_id}")
            case KeyRevoked():
                refusal = Denied(Rule.REVOKED_KEY, f"the key {entry.key_id} is revoked")
            case KeyExpired():
                refusal = Denied(Rule.EXPIRED_KEY, f"the key {entry.key_id} has expired")
            case answer:
                assert_never(answer)
    return refusal


def _content_refusal(command: Command, envelope: JobEnvelope, grounds: Grounds) -> Denied | None:
    if envelope.organisation_id != grounds.audience.organisation_id:
        return Denied(Rule.ORGANISATION, "the order is for another organisation")
    if envelope.agent_id != grounds.audience.agent_id:
        return Denied(Rule.AGENT, "the order is for another agent")
    if envelope.job_id != command.command_id:
        return Denied(Rule.JOB_ID, "the order's signed id is not the command's")
    if envelope.expires_at <= grounds.now_ms:
        late_seconds = (grounds.now_ms - envelope.expires_at) // 1000
        return Denied(Rule.EXPIRED, f"the order expired {late_seconds} s ago by this machine's clock")
    if envelope.issued_at < grounds.not_before_ms:
        return Denied(Rule.JOURNAL_LOST, "this agent lost its journal after the order was issued; give it again")
    if envelope.action not in grounds.allowed_actions:
        return Denied(Rule.ACTION, f"this agent's policy does not allow {envelope.action!r}")
    if envelope.run_as is not None:
        return Denied(Rule.RUN_AS, "this agent does not run jobs as another user")
    if envelope.script_sha256 is not None:
        return Denied(Rule.SCRIPT, "this agent does not run scripts")
    return None


def _decoded(signature: str) -> bytes:
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if len(raw) == SIGNATURE_BYTES else b""
