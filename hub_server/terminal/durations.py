"""Spans of time as people write them."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d{1,9})([smhd]?)")


class BadDuration(ValueError):
    """A text that is no duration."""


def seconds_of(text: str) -> int:
    """Return the seconds of `30m`, `12h`, `7d` or a plain number. Raises BadDuration."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BadDuration(f"{text!r} is no duration; write 90s, 30m, 12h or 7d")
    return int(match[1]) * _SECONDS[match[2] or "s"]


def duration_of(seconds: int) -> str:
    """Return the shortest text for which `seconds_of` gives these seconds: `2h`, not `120m`."""
    unit, length = next((unit, length) for unit, length in reversed(_SECONDS.items()) if seconds % length == 0)
    return f"{seconds // length}{unit}"
