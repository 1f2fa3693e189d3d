"""Close codes of the agents' socket and error codes of operations and REST."""

from enum import IntEnum, StrEnum


class CloseCode(IntEnum):
    """WebSocket close codes (RFC 6455, 7.4.2: 4000-4999 are for private use)."""

    BAD_FRAME = 4400
    IDENTITY_UNKNOWN = 4401
    REVOKED = 4403
    NO_HELLO = 4408
    SUPERSEDED = 4409
    SLOW_CONSUMER = 4410
    TOO_LARGE = 4413
    VERSION = 4426
    BUSY = 4429
    HUB_FAULT = 4500
    DRAINING = 4503


class ErrorCode(StrEnum):
    """What went wrong, for programs. The message beside it is for people and may change."""

    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    UNKNOWN_OPERATION = "unknown_operation"
    INVALID_REQUEST = "invalid_request"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    TOKEN_REFUSED = "token_refused"  # noqa: S105
    KEY_IN_USE = "key_in_use"
    OTP_REQUIRED = "otp_required"
    TOO_LARGE = "too_large"
    BUSY = "busy"
