"""A person's own key: it signs orders beside the hub's signer, so that the hub alone cannot give them."""

from __future__ import annotations

import base64
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from msgspec import structs

from hub_server.errors import KeysRefused
from hub_server.operator.errors import KeyUnusable
from hub_server.storage.private_files import create_private, read_private
from protocol.actions import AnyData, order_of
from protocol.commands import CommandsCreate
from protocol.envelope import JobEnvelope
from protocol.frames import Signature
from protocol.identity import key_id_of
from protocol.limits import COMMAND_EXPIRY_SECONDS, COMMAND_TIMEOUT_SECONDS

LINE: Final = "jtnt-key ed25519"
ENCRYPTED_MARK: Final = b"ENCRYPTED"


class OperatorKey:
    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> OperatorKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: str | None) -> OperatorKey:
        """Raises KeyUnusable when there is none, when others could read it, or for a wrong passphrase."""
        pem = _pem_at(path)
        try:
            private = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyUnusable(f"{path} cannot be read: a wrong passphrase, or it is damaged ({error})") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyUnusable(f"{path} is no Ed25519 key; make one with `jtnt keys make`")
        return cls(private)

    def store(self, path: Path, passphrase: str | None) -> None:
        """Put the key at `path`, for this user alone. Raises KeyUnusable when there is one already."""
        sealing: KeySerializationEncryption = (
            BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        )
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing)
        if not create_private(path, pem):
            raise KeyUnusable(f"there is a key at {path} already; move it away first, orders it signed stay good")

    @property
    def id(self) -> str:
        return key_id_of(self._public)

    def public_line(self, name: str) -> str:
        """Return the line that an administrator gives to `jtnt-hub operator-keys add`."""
        return f"{LINE} {base64.b64encode(self._public).decode()} {name}"

    def sign(self, payload: bytes) -> Signature:
        return Signature(key_id=self.id, signature=base64.b64encode(self._private.sign(payload)).decode())


def needs_passphrase(path: Path) -> bool:
    """Raises KeyUnusable when there is no key."""
    return ENCRYPTED_MARK in _pem_at(path).partition(b"\n")[0]


def signed(
    request: CommandsCreate,
    data: AnyData,
    *,
    key: OperatorKey,
    organisation_id: str,
    requested_by: str,
    now_ms: int,
) -> CommandsCreate:
    """Return the request with the order in it, signed. Sent again it is the same order: its job has its own id.

    `requested_by`: who asks, as the hub names them, or nothing.
    """
    order = order_of(data)
    expires_in = timedelta(seconds=request.expires_in_sec or COMMAND_EXPIRY_SECONDS)
    payload = msgspec.json.encode(
        JobEnvelope(
            job_id=str(uuid.uuid4()),
            organisation_id=organisation_id,
            agent_id=request.agent_id,
            action=order.action,
            argv=order.argv,
            issued_at=now_ms,
            expires_at=now_ms + expires_in // timedelta(milliseconds=1),
            timeout_sec=COMMAND_TIMEOUT_SECONDS if request.timeout_sec is None else request.timeout_sec,
            environment=order.environment,
            working_directory=order.working_directory,
            run_as=order.run_as,
            interpreter=order.interpreter,
            script_sha256=order.script_sha256,
            requested_by=requested_by,
        )
    )
    return structs.replace(request, payload=base64.b64encode(payload).decode(), signature=key.sign(payload))


def _pem_at(path: Path) -> bytes:
    try:
        return read_private(path)
    except FileNotFoundError as error:
        raise KeyUnusable(f"there is no key at {path}: make one with `jtnt keys make`") from error
    except (KeysRefused, OSError) as error:
        raise KeyUnusable(str(error)) from error
