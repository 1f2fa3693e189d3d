"""`jtnt-hub` whose wall clock moves: SIGUSR1 puts it two hours ahead, SIGUSR2 two hours back. Time elapsed goes on."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime, timedelta
from types import FrameType

from hub_server.cli.main import run
from hub_server.clock import SystemClock

STEP = timedelta(hours=2)


offset = timedelta()


def moved_now(_clock: SystemClock) -> datetime:
    """Stand for all that the hub asks for the time of day."""
    return datetime.now(UTC) + offset


def ahead(_number: int, _frame: FrameType | None) -> None:
    global offset  # noqa: PLW0603  one clock a process
    offset += STEP


def back(_number: int, _frame: FrameType | None) -> None:
    global offset  # noqa: PLW0603
    offset -= STEP


if __name__ == "__main__":
    SystemClock.now = moved_now  # type: ignore[method-assign, assignment]  # whoever made one before has it too
    signal.signal(signal.SIGUSR1, ahead)
    signal.signal(signal.SIGUSR2, back)
    sys.exit(run(sys.argv[1:]))
