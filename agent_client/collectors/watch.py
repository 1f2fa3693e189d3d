"""Files whose change is a reason to look again before the interval is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 60.0


class Watch:
    """Looks once a minute, which costs microseconds."""

    def __init__(
        self,
        paths: Iterable[str],
        is_wanted: Callable[[], bool],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        self._is_wanted = is_wanted
        self._pause = pause
        self._stamp: str | None = None

    def reset(self) -> None:
        """Say that a look is taken now: what changed before is no reason any more."""
        self._stamp = stamp_of(self._paths)

    async def changed(self) -> None:
        """Return once a change has come to rest, or the settings want a look again."""
        was_wanted, before = self._is_wanted(), self._stamp
        while True:
            await self._pause(LOOK_SECONDS)
            now = stamp_of(self._paths)
            if not self._is_wanted():
                was_wanted = False
            elif not was_wanted or (self._stamp is not None and now == before != self._stamp):
                return
            before = now


def stamp_of(paths: Sequence[Path]) -> str:
    """Return what differs once one of the files or folders was changed."""
    stamps = []
    for path in paths:
        with suppress(OSError):
            stamps.append(f"{path.name}={path.stat().st_mtime_ns}")
    return " ".join(stamps)
