"""What the signer signs, and how much of it: decisions only."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from protocol.codec import BadFrame, decode
from protocol.envelope import JobEnvelope
from protocol.limits import COMMAND_EXPIRY_MAX_SECONDS, FRAME_MAX_BYTES

CLOCKS_APART_MS: Final = 5 * 60_000
AHEAD_MAX_MS: Final = COMMAND_EXPIRY_MAX_SECONDS * 1000


class Unsignable(ValueError):
    """An order that must not be signed; the message says why."""


_decoder: Final = msgspec.json.Decoder(JobEnvelope)


def order_in(payload: bytes, now_ms: int, organisations: Collection[str] = ()) -> JobEnvelope:
    """Return the order in `payload`, which may be signed at `now_ms`. Raises Unsignable.

    `organisations`: whose orders are signed; empty: everybody's.
    """
    try:
        order = decode(_decoder, payload, FRAME_MAX_BYTES)
    except BadFrame as error:
        raise Unsignable(f"no order that could be signed: {error} {error.path}".rstrip()) from error
    if order.expires_at <= now_ms:
        raise Unsignable("the order has expired")
    if order.expires_at > now_ms + AHEAD_MAX_MS + CLOCKS_APART_MS:
        raise Unsignable(f"the order is good for more than {COMMAND_EXPIRY_MAX_SECONDS // 86400} days")
    if not now_ms - AHEAD_MAX_MS <= order.issued_at <= now_ms + CLOCKS_APART_MS:
        raise Unsignable("the order was not issued at this time")
    if organisations and order.organisation_id not in organisations:
        raise Unsignable("the order is of an organisation that this signer does not sign for")
    return order


class Bucket:
    """Tokens that come back with time: at most `burst` at once and `per_second` in the long run. Mutable."""

    def __init__(self, per_second: float, burst: int, now_monotonic: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._at_monotonic = now_monotonic

    def take(self, now_monotonic: float) -> float:
        """Take a token and return 0, or return in how many seconds there is one."""
        passed = max(now_monotonic - self._at_monotonic, 0.0)
        self._at_monotonic = max(now_monotonic, self._at_monotonic)
        self._tokens = min(self._tokens + passed * self._per_second, float(self._burst))
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0
