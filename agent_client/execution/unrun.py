"""What is said of an order that this agent has not run."""

from __future__ import annotations

from typing import Final

from agent_client.execution.decision import Denied, Rule
from agent_client.execution.process import Ending
from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from protocol.enumerations import CommandOutcome, CommandReason
from protocol.frames import CommandResult

RESULT_MAX_CHARS: Final = 4096
CANCELLED: Final = Ending(
    CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON, None, "cancelled by a person before it ran"
)
EXPIRED: Final = Ending(
    CommandOutcome.FAILED,
    CommandReason.EXPIRED,
    None,
    "the order expired while it waited for its turn; it has not run",
)
UNREADABLE: Final = Ending(
    CommandOutcome.FAILED,
    CommandReason.START_FAILED,
    None,
    "the order that was accepted cannot be read any more; it has not run",
)

_log = Log("execution")


def refused(command_id: str, denied: Denied) -> CommandResult:
    """Return what is said of an order that was not accepted."""
    _log.warn("job refused", command_id=command_id, rule=denied.rule, reason=denied.message)
    reason = CommandReason.EXPIRED if denied.rule is Rule.EXPIRED else CommandReason.DENIED_BY_AGENT
    return CommandResult(
        command_id=command_id,
        status=CommandOutcome.FAILED,
        reason=reason,
        result=denied.message[:RESULT_MAX_CHARS],
        rule=denied.rule,
    )


def unwritten(error: DatabaseError) -> Ending:
    """Return how an order ends whose start the journal does not take."""
    message = f"it has not run: the agent cannot write its journal: {error}; see that its disk has room and is well"
    return Ending(CommandOutcome.FAILED, CommandReason.START_FAILED, None, message[:RESULT_MAX_CHARS])


def not_any_more(denied: Denied) -> Ending:
    """Return how an order ends that was accepted, and may not run when its turn comes."""
    message = f"it waited for its turn, and may not run any more: {denied.message}"
    reason = CommandReason.DENIED_BY_AGENT
    return Ending(CommandOutcome.FAILED, reason, None, message[:RESULT_MAX_CHARS], denied.rule)


def overtaken(command_id: str) -> CommandResult:
    """Return what is said of an order whose cancel came first."""
    return CommandResult(
        command_id=command_id,
        status=CommandOutcome.CANCELLED,
        reason=CommandReason.CANCELLED_BY_PERSON,
        result="cancelled by a person before it came",
    )
