"""May this order be carried out? A decision without I/O. The questions come in the order of their cost."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Sequence
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from agent_client.execution.decision import Denied, Permitted, Rule
from agent_client.policy.terms import Policy
from agent_client.policy.verdict import Circumstances, operator_line, policy_refusal
from agent_client.trust.document import (
    KeyAnswer,
    KeyExpired,
    KeyRevoked,
    KeyUnknown,
    UsableKey,
    operator_of,
    signer_of,
)
from protocol.actions import script_hash
from protocol.codec import BadFrame, decode
from protocol.enumerations import Action
from protocol.envelope import JobEnvelope, TrustDocument
from protocol.frames import Command, Signature
from protocol.limits import FRAME_MAX_BYTES

__all__ = ["Audience", "Denied", "Grounds", "Permitted", "Rule", "SignatureCheck", "judge", "objection_to"]

SignatureCheck = Callable[[bytes, bytes, bytes], bool]
SIGNATURE_BYTES: Final = 64
SIGNATURES_MAX: Final = 4

_envelope_decoder: Final = msgspec.json.Decoder(JobEnvelope)


class Audience(Struct, frozen=True):
    """Who this agent is, by its own certificate."""

    organisation_id: str
    agent_id: str


class Grounds(Struct, frozen=True):
    """What a decision rests on.

    `now_ms`: the later of the clock and the persisted high-water mark. `not_before_ms`: orders issued earlier are
    refused, because the journal that would know them is lost; 0 where it is not. `around`: the machine's own policy and
    what it is held against.
    """

    audience: Audience
    trust: TrustDocument
    is_signed_by: SignatureCheck
    now_ms: int
    allowed_actions: Collection[str]
    not_before_ms: int = 0
    around: Circumstances = Circumstances()


def judge(command: Command, grounds: Grounds) -> Permitted | Denied:
    """Return whether `command` may run here and now. The caller has already looked for its id in the journal."""
    if len(command.payload) > FRAME_MAX_BYTES:
        return Denied(Rule.TOO_LARGE, f"the order is larger than {FRAME_MAX_BYTES} bytes")
    try:
        payload = base64.b64decode(command.payload, validate=True)
    except (binascii.Error, ValueError):
        return Denied(Rule.MALFORMED, "the order is not base64")
    refusal = _signature_refusal(payload, command.signatures, grounds) or _operator_refusal(
        payload, command.signatures, grounds
    )
    if refusal:
        return refusal
    try:
        envelope = decode(_envelope_decoder, payload, FRAME_MAX_BYTES)
    except BadFrame as error:
        return Denied(Rule.MALFORMED, f"the order cannot be read: {error} {error.path}".strip())
    order = Permitted(envelope, payload, command.signatures[:SIGNATURES_MAX])
    return _content_refusal(command, envelope, grounds) or order


def objection_to(order: Permitted, grounds: Grounds) -> Denied | None:
    """Return what stands by now against an order that was permitted and has waited, but for its expiry."""
    return (
        _signature_refusal(order.payload, order.signatures, grounds)
        or _operator_refusal(order.payload, order.signatures, grounds)
        or _audience_refusal(order.envelope, grounds)
        or _action_refusal(order.envelope, grounds)
        or policy_refusal(order.envelope, grounds.around)
    )


def _signature_refusal(payload: bytes, signatures: Sequence[Signature], grounds: Grounds) -> Denied | None:
    """Return None when one signature is of the hub's signer; else what stood against the last one that came closest."""
    refusal = Denied(Rule.SIGNATURE, "the order carries no signature")
    for entry in signatures[:SIGNATURES_MAX]:
        answer = signer_of(grounds.trust, entry.key_id, grounds.now_ms)
        against = _objection(entry, answer, payload, grounds)
        if against is None:
            return None
        refusal = against
    return refusal


def _operator_refusal(payload: bytes, signatures: Sequence[Signature], grounds: Grounds) -> Denied | None:
    """Return None when no person's signature is needed beside the hub's, or one is good and counts here."""
    policy = grounds.around.state
    if not isinstance(policy, Policy) or not policy.needs_operator:
        return None
    why = "the order has none"
    for entry in signatures[:SIGNATURES_MAX]:
        answer = operator_of(grounds.trust, entry.key_id, grounds.now_ms)
        if isinstance(answer, KeyUnknown):
            continue
        if not policy.counts_operator(entry.key_id):
            why = f"the key {entry.key_id} is not among them"
            continue
        against = _objection(entry, answer, payload, grounds)
        if against is None:
            return None
        why = against.message
    return Denied(Rule.OPERATOR_SIGNATURE, f"{operator_line(policy)}: {why}")


def _objection(entry: Signature, answer: KeyAnswer, payload: bytes, grounds: Grounds) -> Denied | None:
    match answer:
        case UsableKey(public_key=public_key):
            if grounds.is_signed_by(public_key, _decoded(entry.signature), payload):
                return None
            return Denied(Rule.SIGNATURE, f"the signature by key {entry.key_id} does not fit the order")
        case KeyUnknown():
            return Denied(Rule.UNKNOWN_KEY, f"this agent does not trust the key {entry.key_id}")
        case KeyRevoked():
            return Denied(Rule.REVOKED_KEY, f"the key {entry.key_id} is revoked")
        case KeyExpired():
            return Denied(Rule.EXPIRED_KEY, f"the key {entry.key_id} has expired")
        case _:
            assert_never(answer)


def _content_refusal(command: Command, envelope: JobEnvelope, grounds: Grounds) -> Denied | None:
    if refusal := _audience_refusal(envelope, grounds):
        return refusal
    if envelope.job_id != command.command_id:
        return Denied(Rule.JOB_ID, "the order's signed id is not the command's")
    if envelope.expires_at <= grounds.now_ms:
        late_seconds = (grounds.now_ms - envelope.expires_at) // 1000
        return Denied(Rule.EXPIRED, f"the order expired {late_seconds} s ago by this machine's clock")
    if envelope.issued_at < grounds.not_before_ms:
        return Denied(Rule.JOURNAL_LOST, "this agent lost its journal after the order was issued; give it again")
    return (
        _action_refusal(envelope, grounds)
        or _script_refusal(command, envelope)
        or policy_refusal(envelope, grounds.around)
    )


def _audience_refusal(envelope: JobEnvelope, grounds: Grounds) -> Denied | None:
    if envelope.organisation_id != grounds.audience.organisation_id:
        return Denied(Rule.ORGANISATION, "the order is for another organisation")
    if envelope.agent_id != grounds.audience.agent_id:
        return Denied(Rule.AGENT, "the order is for another agent")
    return None


def _action_refusal(envelope: JobEnvelope, grounds: Grounds) -> Denied | None:
    if envelope.action in grounds.allowed_actions:
        return None
    allowed = ", ".join(sorted(grounds.allowed_actions)) or "nothing"
    whose = "the organisation's policy, with the machine's local-policy.json, allows"
    return Denied(Rule.ACTION, f"no job may do {envelope.action} on this machine: {whose} {allowed}")


def _script_refusal(command: Command, envelope: JobEnvelope) -> Denied | None:
    """The signature covers the hash of a script alone; the script travels beside the order."""
    if envelope.action is not Action.SCRIPT:
        return None
    try:
        script = base64.b64decode(command.script, validate=True)
    except (binascii.Error, ValueError):
        return Denied(Rule.SCRIPT, "the script is not base64")
    if script_hash(script) != envelope.script_sha256:
        return Denied(Rule.SCRIPT, "the script is not the one that was signed")
    return None


def _decoded(signature: str) -> bytes:
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if len(raw) == SIGNATURE_BYTES else b""
