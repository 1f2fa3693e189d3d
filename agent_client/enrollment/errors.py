"""Why an enrollment did not come about. Nothing was saved but the new key, which the next try uses again."""

from __future__ import annotations

from typing import ClassVar

from agent_client.errors import AgentError


class EnrollmentError(AgentError):
    code: ClassVar[str] = "enrollment"


class WrongAddress(EnrollmentError):
    """What was given as the hub's address is none."""

    code: ClassVar[str] = "wrong_address"
    exit_code: ClassVar[int] = 64


class HubNotReached(EnrollmentError):
    code: ClassVar[str] = "hub_not_reached"
    exit_code: ClassVar[int] = 4


class WrongHub(EnrollmentError):
    """What answers is not the hub the token was made by, or cannot prove it. It was not sent the token."""

    code: ClassVar[str] = "wrong_hub"
    exit_code: ClassVar[int] = 5


class HubRefused(EnrollmentError):
    """The hub's own words, and its code."""

    code: ClassVar[str] = "hub_refused"
    exit_code: ClassVar[int] = 6

    def __init__(self, message: str, error_code: str) -> None:
        super().__init__(message)
        self.error_code = error_code


class BadAnswer(EnrollmentError):
    """The hub's answer does not hold what it must; nothing of it was saved."""

    code: ClassVar[str] = "bad_answer"
    exit_code: ClassVar[int] = 7


class AlreadyEnrolled(EnrollmentError):
    code: ClassVar[str] = "already_enrolled"
    exit_code: ClassVar[int] = 3
