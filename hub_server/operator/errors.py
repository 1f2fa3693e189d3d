"""What can go wrong between an operator's program and a hub."""

from __future__ import annotations

from protocol.enrollment import ErrorBody


class OperatorError(Exception):
    """Base of the tree. The message is for a person and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refused(OperatorError):
    """The hub has answered no.

    `code` is one of the protocol's error codes, `path` the request's field at fault, `retry_after_seconds` when asking
    again may help.
    """

    def __init__(
        self, code: str, message: str, *, path: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.path = path
        self.retry_after_seconds = retry_after_seconds

    @classmethod
    def of(cls, error: ErrorBody) -> Refused:
        return cls(str(error.code), error.message, path=error.path, retry_after_seconds=error.retry_after_sec)


class BadAddress(OperatorError):
    """The hub's address cannot be used as it was given."""


class NotConnected(OperatorError):
    """The hub cannot be reached, or has not answered in time."""


class AnswerLost(NotConnected):
    """The connection ended between a question and its answer: the hub may have done what was asked."""


class NotTrusted(NotConnected):
    """Whoever answers at the hub's address cannot prove to be the hub."""


class NotSignedIn(OperatorError):
    """The token or the sign-in is worth nothing, or nothing any more."""


class OutputMissing(OperatorError):
    """The hub says that a job has ended, and does not give the rest of its output."""


class KeyUnusable(OperatorError):
    """An operator's key cannot be read, or there is none."""
