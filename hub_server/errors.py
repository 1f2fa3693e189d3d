"""Errors the hub tells its users about. `gateway/faults.py` translates them to codes, statuses and acknowledgements."""

from typing import ClassVar

from protocol.codes import ErrorCode


class HubError(Exception):
    """Base of the tree. The message is for the person who asked and says what to do.

    `path` names the request's field at fault; `retry_after_seconds` when asking again may help.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    temporary: ClassVar[bool] = False

    def __init__(self, message: str, *, path: str | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.retry_after_seconds = retry_after_seconds


class Unauthenticated(HubError):
    code = ErrorCode.UNAUTHENTICATED


class OtpRequired(HubError):
    code = ErrorCode.OTP_REQUIRED


class Forbidden(HubError):
    code = ErrorCode.FORBIDDEN


class InvalidRequest(HubError):
    code = ErrorCode.INVALID_REQUEST


class NotFound(HubError):
    code = ErrorCode.NOT_FOUND


class Conflict(HubError):
    code = ErrorCode.CONFLICT


class QuotaReached(HubError):
    code = ErrorCode.QUOTA


class RateLimited(HubError):
    code = ErrorCode.RATE_LIMITED
    temporary = True


class Unavailable(HubError):
    code = ErrorCode.UNAVAILABLE
    temporary = True


class TokenRefused(HubError):
    code = ErrorCode.TOKEN_REFUSED


class KeyInUse(HubError):
    code = ErrorCode.KEY_IN_USE


class KeysRefused(Exception):
    """Keys of the hub that cannot be used as they are. The message is for whoever runs it and says what to do."""
