"""When a certificate is to be renewed. Pure: chance comes out of the certificate itself, so that a restart of the agent
does not draw anew, and machines enrolled together do not renew together.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from agent_client.certificate import CertificateFacts

RENEWAL_FRACTION: Final = 2 / 3
RENEWAL_JITTER: Final = 0.1
# Hubs date certificates back, for machines whose clock is behind; a short life must not seem half over when it begins.
BACK_DATED_MS: Final = 5 * 60_000
RETRY_MIN_SECONDS: Final = 5.0
RETRY_MAX_SECONDS: Final = 900.0
_RETRIES_IN_WHAT_IS_LEFT: Final = 20


class IssuerWanted(Struct, frozen=True):
    """The authority that certificates shall come from by now, and when this agent leaves another one."""

    issuer_sha256: str
    leave_at_ms: int


def renewal_at_ms(facts: CertificateFacts, wanted: IssuerWanted | None) -> int:
    """Return when to ask for a new certificate: at 2/3 ± 10 % of its life, or earlier to leave its issuer."""
    issued_at_ms = min(facts.not_before_ms + BACK_DATED_MS, facts.not_after_ms)
    life_ms = facts.not_after_ms - issued_at_ms
    fraction = RENEWAL_FRACTION * (1 + RENEWAL_JITTER * (2 * _draw(facts, "life") - 1))
    by_age = issued_at_ms + int(life_ms * fraction)
    if wanted is None or wanted.issuer_sha256 == facts.issuer_sha256:
        return by_age
    return min(by_age, wanted.leave_at_ms)


def leave_at_ms(facts: CertificateFacts, now_ms: int, over_seconds: int) -> int:
    """Return this certificate's moment in the next `over_seconds`."""
    return now_ms + int(over_seconds * 1000 * _draw(facts, "issuer"))


def retry_seconds(facts: CertificateFacts, now_ms: int) -> float:
    """Return the pause after a renewal that did not come about: less, the less life is left."""
    left_seconds = (facts.not_after_ms - now_ms) / 1000
    return min(max(left_seconds / _RETRIES_IN_WHAT_IS_LEFT, RETRY_MIN_SECONDS), RETRY_MAX_SECONDS)


def _draw(facts: CertificateFacts, purpose: str) -> float:
    """Return a number in 0 ≤ n < 1 that is this certificate's own."""
    said = f"{purpose}\n{facts.identity.uri}\n{facts.not_before_ms}\n{facts.not_after_ms}\n{facts.issuer_sha256}"
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:6]) / 2**48
