"""Jobs as a table that fits where it is read; `jtnt job ID` and `--json` tell all of each."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from hub_server.operator.cli.known_jobs import ID_SHOWN_CHARS
from hub_server.terminal.columns import Room, lines_of
from protocol.commands import CommandView
from protocol.enumerations import Action, CommandReason, CommandStatus

TITLES: Final = ("ID", "ASKED AT", "MACHINE", "STATUS", "BY", "WHAT", "WHY")
ROOMS: Final = {"MACHINE": Room(14, tail_chars=10), "BY": Room(6), "WHAT": Room(12), "WHY": Room(8)}
WITH_WHY_CHARS: Final = 100
"""In less there is no room for why."""
PERSON: Final = "user:"
ENDINGS: Final = {
    CommandReason.TIMEOUT: "timeout",
    CommandReason.EXPIRED: "expired",
    CommandReason.DENIED_BY_AGENT: "denied",
    CommandReason.START_FAILED: "no start",
    CommandReason.INTERRUPTED: "interrupted",
    CommandReason.UNKNOWN: "unknown",
}
"""What the status alone does not say; where it does, a reason has no word."""


def job_lines(views: Sequence[CommandView], machines: Mapping[str, str], most_chars: int) -> list[str]:
    """Return the titles and a line for each job. `machines`: what they are called, by id.

    Ids are shortened as far as they name one job of the list; reasons are shown where there are some.
    """
    beginnings = Counter(view.id[:ID_SHOWN_CHARS] for view in views)
    rows = [TITLES, *(_row(view, machines[view.agent_id], beginnings) for view in views)]
    has_why = most_chars >= WITH_WHY_CHARS and any(view.purpose for view in views)
    shown = rows if has_why else [row[:-1] for row in rows]
    return lines_of(shown, most_chars=most_chars, rooms=ROOMS)


def _row(view: CommandView, machine: str, beginnings: Mapping[str, int]) -> tuple[str, ...]:
    beginning = view.id[:ID_SHOWN_CHARS]
    return (
        beginning if beginnings[beginning] == 1 else view.id,
        view.created_at.astimezone().strftime("%m-%d %H:%M"),
        machine,
        _standing(view),
        view.created_by.removeprefix(PERSON),
        summary_of(view),
        view.purpose,
    )


def _standing(view: CommandView) -> str:
    """Return where it stands, and how it ended: `COMPLETED`, `FAILED 3`, `FAILED timeout`."""
    if view.reason in ENDINGS:
        return f"{view.status} {ENDINGS[view.reason]}"
    has_code = view.status is CommandStatus.FAILED and view.exit_code is not None
    return f"{view.status} {view.exit_code}" if has_code else view.status.value


def summary_of(view: CommandView) -> str:
    """Return what was ordered, on one line."""
    data = view.command_data
    match view.command_type:
        case Action.EXEC:
            return shlex.join(map(str, data.get("argv", [])))
        case Action.SCRIPT:
            words = ["script", data.get("interpreter", ""), *data.get("arguments", [])]
        case _:
            words = [view.command_type, *(value for value in data.values())]
    return " ".join(" ".join(map(str, word)) if isinstance(word, list) else str(word) for word in words)
