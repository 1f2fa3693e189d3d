"""One line a step: whether it holds, what was shown, and the figure seen."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Final

WIDTH: Final = 88
Step = Callable[[], Awaitable[str]]


class Report:
    """Prints lines as they come; `only` leaves out steps whose words do not hold it."""

    def __init__(self, only: str = "") -> None:
        self._only = only
        self.failed: list[str] = []
        self.held = 0

    def wants(self, what: str) -> bool:
        return self._only.casefold() in what.casefold()

    async def show(self, what: str, step: Step) -> None:
        """Run `step`, which returns its figure, and print its line; a step that raises has failed."""
        if not self.wants(what):
            return
        started = time.monotonic()
        try:
            figure = await step()
        except Exception as error:  # noqa: BLE001  one step is isolated: the others are still to be shown
            self.failed.append(what)
            self.say("FAIL", what, f"{type(error).__name__}: {error}".strip()[:2000])
            print("".join(traceback.format_exception(error))[-3000:], flush=True)
        else:
            self.held += 1
            self.say("PASS", what, f"{figure}  ({time.monotonic() - started:.1f} s)")

    def say(self, verdict: str, what: str, figure: str) -> None:
        print(f"{verdict}  {what:<{WIDTH}}  {figure}", flush=True)

    def end(self) -> int:
        """Print the sum and return the exit code: 0 when steps were shown and all hold."""
        print(f"\n{self.held} hold, {len(self.failed)} do not", flush=True)
        return 0 if self.held and not self.failed else 1
