"""A task that is cancelled in the very moment in which one of its own tasks fails."""

from __future__ import annotations

import asyncio


def check_cancelled(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise CancelledError where this task is to end: on Python 3.11 and 3.12 what failed in a task group hides it.

    To be called first where a group of faults is caught; else whoever waits for the task's end waits for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling() > 0:
        raise asyncio.CancelledError from group
