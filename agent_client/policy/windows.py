"""Hours of the week, as `Mon-Fri 08:00-18:00`, in the machine's local time."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from msgspec import Struct

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MINUTES: Final = 24 * 60
_FORM: Final = re.compile(r"(?P<days>[A-Za-z,-]+) +(?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)")


class BadWindow(ValueError):
    """A text that names no hours; the message says what is expected."""


class Window(Struct, frozen=True):
    """`days`: 0 is Monday; a window over midnight belongs to the day on which it begins. Minutes of the day."""

    days: frozenset[int]
    begins_minute: int
    ends_minute: int

    def holds(self, at: datetime) -> bool:
        """Tell whether `at`, in local time, is within."""
        minute, day = at.hour * 60 + at.minute, at.weekday()
        if self.begins_minute < self.ends_minute:
            return day in self.days and self.begins_minute <= minute < self.ends_minute
        before = (day - 1) % len(DAYS)
        return (day in self.days and minute >= self.begins_minute) or (
            before in self.days and minute < self.ends_minute
        )


def window_of(text: str) -> Window:
    """Raises BadWindow."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise BadWindow(f"{text!r} names no hours; write them as `Mon-Fri 08:00-18:00` or `Sat,Sun 22:00-06:00`")
    begins, ends = _minute_of(match["from"], text), _minute_of(match["to"], text)
    if begins in {ends, _DAY_MINUTES}:
        raise BadWindow(f"{text!r} is no time at all; a whole day is 00:00-24:00")
    return Window(frozenset(day for part in match["days"].split(",") for day in _days_in(part, text)), begins, ends)


def _days_in(part: str, text: str) -> list[int]:
    """Return the days of `Mon`, or of `Fri-Mon`, which goes over the end of the week."""
    first, _, last = part.partition("-")
    try:
        begins, ends = DAYS.index(first.title()), DAYS.index((last or first).title())
    except ValueError as error:
        raise BadWindow(f"{text!r}: days are {', '.join(DAYS)}, as `Mon-Fri` or `Sat,Sun`") from error
    if part.endswith("-"):
        raise BadWindow(f"{text!r}: days are {', '.join(DAYS)}, as `Mon-Fri` or `Sat,Sun`")
    return [(begins + step) % len(DAYS) for step in range((ends - begins) % len(DAYS) + 1)]


def _minute_of(clock: str, text: str) -> int:
    hour, minute = int(clock[:2]), int(clock[3:])
    if minute > 59 or hour * 60 + minute > _DAY_MINUTES:
        raise BadWindow(f"{text!r}: {clock} is no time of a day")
    return hour * 60 + minute
