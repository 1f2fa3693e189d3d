"""The order that the hub makes of a request, and one that a person's key has signed: it must say the same."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from hub_server.errors import Forbidden, InvalidRequest
from protocol.actions import AnyData, order_of
from protocol.codec import BadFrame, decode
from protocol.commands import CommandsCreate
from protocol.envelope import JobEnvelope
from protocol.frames import Signature
from protocol.limits import (
    COMMAND_EXPIRY_MAX_SECONDS,
    COMMAND_EXPIRY_SECONDS,
    COMMAND_TIMEOUT_SECONDS,
    FRAME_MAX_BYTES,
)

CLOCKS_APART_MS: Final = 60_000
_PAYLOAD: Final = "$.payload"
_SIGNATURE: Final = "$.signature"

_decoder: Final = msgspec.json.Decoder(JobEnvelope)


class Countersigned(Struct, frozen=True):
    """`payload`: the bytes that `signature` covers, which the hub's signer and the agent take as they are."""

    envelope: JobEnvelope
    payload: bytes
    signature: Signature


def own_order(
    request: CommandsCreate, data: AnyData, *, organisation_id: str, requested_by: str, now_ms: int
) -> JobEnvelope:
    """Return what the hub's signer is to sign for `request`, whose data were read as `data`; its id is a new one."""
    order = order_of(data)
    return JobEnvelope(
        job_id=str(uuid.uuid4()),
        organisation_id=organisation_id,
        agent_id=request.agent_id,
        action=order.action,
        argv=order.argv,
        issued_at=now_ms,
        expires_at=now_ms + (request.expires_in_sec or COMMAND_EXPIRY_SECONDS) * 1000,
        timeout_sec=COMMAND_TIMEOUT_SECONDS if request.timeout_sec is None else request.timeout_sec,
        environment=order.environment,
        working_directory=order.working_directory,
        run_as=order.run_as,
        interpreter=order.interpreter,
        script_sha256=order.script_sha256,
        requested_by=requested_by,
    )


def asked_order(request: CommandsCreate, own: JobEnvelope) -> JobEnvelope:
    """Return the order that is asked for, to be compared with an earlier one: no signature is looked at.

    Raises InvalidRequest for a payload that is no order.
    """
    return own if request.payload is None else _order_in(_bytes_of(request.payload, _PAYLOAD))


def countersigned(
    request: CommandsCreate, own: JobEnvelope, key_of: Callable[[str], bytes | None]
) -> Countersigned | None:
    """Return the order that came signed with `request`, None when none did.

    `own`: the order that the hub would make of the request now. `key_of`: the public key that counts under an id.
    Raises InvalidRequest when the two orders differ, Forbidden when the key does not count.
    """
    if request.payload is None and request.signature is None:
        return None
    if request.payload is None or request.signature is None:
        raise InvalidRequest("payload and signature belong together: give both or neither", path=_PAYLOAD)
    payload = _bytes_of(request.payload, _PAYLOAD)
    _check_signature(payload, request.signature, key_of)
    given = _order_in(payload)
    _check_id_and_times(given, own, request)
    _check_same(given, own, request)
    return Countersigned(given, payload, request.signature)


def _check_signature(payload: bytes, signature: Signature, key_of: Callable[[str], bytes | None]) -> None:
    public_key = key_of(signature.key_id)
    if public_key is None:
        raise Forbidden(
            f"the key {signature.key_id} counts for nothing here: it is unknown, revoked or has expired; an "
            "administrator adds keys with `jtnt-hub operator-keys add`",
            path=f"{_SIGNATURE}.keyId",
        )
    try:
        raw = _bytes_of(signature.signature, f"{_SIGNATURE}.signature")
        Ed25519PublicKey.from_public_bytes(public_key).verify(raw, payload)
    except InvalidSignature as error:
        raise InvalidRequest(
            "the signature does not fit the payload; sign the very bytes that are sent", path=f"{_SIGNATURE}.signature"
        ) from error


def _order_in(payload: bytes) -> JobEnvelope:
    try:
        return decode(_decoder, payload, FRAME_MAX_BYTES)
    except BadFrame as error:
        raise InvalidRequest(f"the payload is no order: {error} {error.path}".rstrip(), path=_PAYLOAD) from error


def _check_id_and_times(given: JobEnvelope, own: JobEnvelope, request: CommandsCreate) -> None:
    if not _is_uuid(given.job_id):
        raise InvalidRequest("the order's jobId must be a UUID of its own, as uuid4 makes it", path=_PAYLOAD)
    apart_ms = given.issued_at - own.issued_at
    if abs(apart_ms) > CLOCKS_APART_MS:
        raise InvalidRequest(
            f"the order was issued {abs(apart_ms) / 1000:.0f} s {'after' if apart_ms > 0 else 'before'} the hub's "
            "time; set your clock, and sign anew",
            path=_PAYLOAD,
        )
    waits_ms = given.expires_at - given.issued_at
    if request.expires_in_sec is not None and waits_ms != request.expires_in_sec * 1000:
        raise InvalidRequest("the signed order says another expiresAt than expiresInSec", path=_PAYLOAD)
    if not 0 < waits_ms <= COMMAND_EXPIRY_MAX_SECONDS * 1000:
        raise InvalidRequest(
            f"the order must expire within {COMMAND_EXPIRY_MAX_SECONDS // 86400} days after it was issued",
            path=_PAYLOAD,
        )


def _check_same(given: JobEnvelope, own: JobEnvelope, request: CommandsCreate) -> None:
    free = {"job_id", "issued_at", "expires_at"}
    if not given.requested_by:
        free.add("requested_by")
    if request.timeout_sec is None:
        free.add("timeout_sec")
    for field in msgspec.structs.fields(JobEnvelope):
        if field.name not in free and getattr(given, field.name) != getattr(own, field.name):
            raise InvalidRequest(f"the signed order says another {field.encode_name} than the request", path=_PAYLOAD)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _bytes_of(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("base64 is expected", path=path) from error
