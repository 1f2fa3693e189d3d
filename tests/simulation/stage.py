"""What hub and agents of the simulation share: time, signatures, and what is put in place of parts of the product."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from unittest.mock import patch

from sqlalchemy import Connection

from agent_client.execution import capture, reporting
from hub_server.commands import service as service_module
from protocol.envelope import SigningKey, TrustDocument
from protocol.frames import Signature
from tests.simulation.chance import Chance

ORGANISATION: Final = "o1"
DOMAIN: Final = "fleet.test"
BEGINNING: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CHUNK_BYTES: Final = 256
"""Small, so that little output makes many frames."""
KEY_ID: Final = "signer"
TRUST: Final = TrustDocument(
    version=1,
    issued_at_ms=0,
    trust_domain=DOMAIN,
    issuing_authorities=[],
    signers=[SigningKey(key_id=KEY_ID, public_key=base64.b64encode(bytes(32)).decode(), not_after_ms=2**52)],
)


@contextmanager
def in_place(chance: Chance) -> Iterator[None]:
    """Put what the simulation stands in for into its place: sizes, random ids, and no audit."""
    with (
        patch("uuid.uuid4", chance.uuid),
        patch.object(capture, "CHUNK_MAX_BYTES", CHUNK_BYTES),
        patch.object(reporting, "CHUNK_MAX_BYTES", CHUNK_BYTES),
        patch.object(service_module, "record_within", _no_audit),
    ):
        yield


def _no_audit(_connection: Connection, **_entry: Any) -> None:
    pass


class SkewedClock:
    """Both the hub's and the agent's port of time, on the loop's own."""

    def __init__(self, skew_seconds: float = 0.0) -> None:
        self._skew_seconds = skew_seconds

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def since_boot(self) -> float:
        return self.monotonic()

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.monotonic() + self._skew_seconds)

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)


class SimulatedSigner:
    """A hash stands for a signature: as long as one, and over all that is signed.

    `is_forged`: for which payloads it shall not fit, as if somebody had altered them later.
    """

    def __init__(self, is_forged: Callable[[bytes], bool]) -> None:
        self._is_forged = is_forged

    async def sign_job(self, payload: bytes) -> Signature:
        signed = payload + b" " if self._is_forged(payload) else payload
        return Signature(key_id=KEY_ID, signature=base64.b64encode(hashlib.sha512(signed).digest()).decode())

    def operator_key(self, key_id: str) -> bytes | None:  # noqa: ARG002  a role's name
        return None


def is_signed_by(_public_key: bytes, signature: bytes, message: bytes) -> bool:
    return signature == hashlib.sha512(message).digest()
