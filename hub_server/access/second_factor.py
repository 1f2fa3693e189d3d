"""One-time codes of authenticator apps (RFC 6238) and recovery codes. pyotp stops here."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final

import pyotp

STEP_SECONDS: Final = 30
DIGITS: Final = 6
STEPS_AROUND: Final = 1
RECOVERY_CODES: Final = 10
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_GROUPS: Final = (5, 5, 4)
"""70 bits: their bare SHA-256 gives nothing away."""


def new_secret() -> str:
    """Return 160 bits in base32."""
    return pyotp.random_base32()


def uri_of(secret: str, username: str, issuer: str) -> str:
    """Return what authenticator apps read from a QR code."""
    return pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS).provisioning_uri(name=username, issuer_name=issuer)


def is_code(text: str) -> bool:
    """Tell whether `text` has the form of an authenticator's code; any other is taken for a recovery code."""
    digits = text.replace(" ", "")
    return len(digits) == DIGITS and digits.isascii() and digits.isdigit()


def step_of(secret: str, code: str, now: datetime, after_step: int) -> int | None:
    """Return the time step of `code`, when it is one around `now` and newer than `after_step`, else None."""
    present = int(now.timestamp()) // STEP_SECONDS
    generator = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS)
    given, found = code.replace(" ", ""), None
    for step in range(present - STEPS_AROUND, present + STEPS_AROUND + 1):
        if hmac.compare_digest(generator.generate_otp(step), given) and step > after_step:
            found = step
    return found


def new_recovery_codes() -> list[str]:
    return [_new_recovery_code() for _ in range(RECOVERY_CODES)]


def _new_recovery_code() -> str:
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(size)) for size in _GROUPS)


def digest_of(recovery_code: str) -> bytes:
    """Return what the database keeps; spaces, dashes and case do not count."""
    plain = recovery_code.replace("-", "").replace(" ", "").casefold()
    return hashlib.sha256(plain.encode()).digest()
