"""How `jtnt` ends."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from hub_server.operator.errors import NotConnected, NotSignedIn, OperatorError, OutputMissing, Refused
from protocol.commands import CommandView
from protocol.enumerations import CommandReason, CommandStatus


class Exit(IntEnum):
    """Exit codes beside those of jobs; the help of `jtnt` lists them."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    NO_CONNECTION = 3
    NOT_SIGNED_IN = 4
    TIMEOUT = 124
    REFUSED = 125
    NOT_STARTED = 126
    CANCELLED = 130


SIGNALLED: Final = 128
LARGEST: Final = 255
REASONS: Final = {
    CommandReason.TIMEOUT: (Exit.TIMEOUT, "its timeout has passed (--timeout allows more)"),
    CommandReason.EXPIRED: (Exit.REFUSED, "it expired: its machine did not come in time (--expires waits longer)"),
    CommandReason.DENIED_BY_AGENT: (Exit.REFUSED, "the machine refused it"),
    CommandReason.START_FAILED: (Exit.NOT_STARTED, "it could not be started"),
    CommandReason.INTERRUPTED: (Exit.REFUSED, "the machine lost it half-way; it was not run again"),
    CommandReason.UNKNOWN: (Exit.REFUSED, "nobody knows how it ended"),
    CommandReason.CANCELLED_BY_PERSON: (Exit.CANCELLED, "it was cancelled"),
}
"""What an end means where the job has no exit code of its own."""
TOLD_BY_RESULT: Final = frozenset({CommandReason.EXPIRED, CommandReason.START_FAILED})
"""What the machine itself says of such an end is a sentence of its own, and the truer one."""


class Failed(Exception):
    """The message is one line that says what to do."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def exit_code_of(view: CommandView) -> int:
    """Return what `jtnt` ends with for a job that has ended: its own exit code, 128 and the number for a signal."""
    if view.status is CommandStatus.CANCELLED:
        return Exit.CANCELLED
    if view.reason in REASONS:
        return REASONS[view.reason][0]
    if view.exit_code is None:
        return Exit.DONE if view.status is CommandStatus.COMPLETED else Exit.SOME_FAILED
    code = SIGNALLED - view.exit_code if view.exit_code < 0 else view.exit_code
    return code if code <= LARGEST else Exit.SOME_FAILED


def sentence_of(view: CommandView) -> str:
    """Return how a job ended, for a person; empty when its exit code says it all."""
    if view.status is CommandStatus.CANCELLED:
        return view.result or REASONS[CommandReason.CANCELLED_BY_PERSON][1]
    if view.reason in TOLD_BY_RESULT and view.result:
        return view.result
    if view.reason in REASONS:
        sentence = REASONS[view.reason][1]
        return f"{sentence}: {view.result}" if view.result else sentence
    return "" if view.result == f"ended with exit code {view.exit_code}" else view.result


def cut_of(view: CommandView) -> str:
    """Return how much of a job's output there is, for a person; empty when that is all of it."""
    written, kept = sum(view.output_bytes.values()), sum(view.kept_bytes.values())
    if not view.truncated:
        return ""
    return f"its output was too long: {kept} of {written} bytes were kept" if written > kept else "its output was cut"


def exit_of(error: OperatorError) -> Exit:
    match error:
        case NotSignedIn():
            return Exit.NOT_SIGNED_IN
        case NotConnected():
            return Exit.NO_CONNECTION
        case Refused():
            return Exit.REFUSED
        case OutputMissing():
            return Exit.SOME_FAILED
        case _:
            return Exit.USAGE
