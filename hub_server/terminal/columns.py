"""Rows of text in columns, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

GAP: Final = "  "
CUT: Final = "\N{HORIZONTAL ELLIPSIS}"


class Room(NamedTuple):
    """How far a column may shrink: to `least_chars`. Of a cell that is cut the last `tail_chars` stay."""

    least_chars: int
    tail_chars: int = 0


def visible(text: str) -> str:
    """Return `text` with all that a terminal would obey, or not show, made visible: a stranger may have sent it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equally many cells, the first one being the titles, each column as wide as its widest cell."""
    for line in lines_of(rows):
        print(line)


def lines_of(
    rows: Sequence[Sequence[str]], *, most_chars: int = 0, rooms: Mapping[str, Room] | None = None
) -> list[str]:
    """Return rows as `print_columns` prints them, none longer than `most_chars`, as far as columns may shrink.

    `rooms`: of those that may, by title; the widest shrinks first.
    """
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    room_of = {shown[0].index(title): room for title, room in (rooms or {}).items() if title in shown[0]}
    too_long = sum(widths) + len(GAP) * (len(widths) - 1) - most_chars
    while too_long > 0:
        able = [column for column, room in room_of.items() if widths[column] > room.least_chars]
        if not able:
            break
        widths[max(able, key=lambda column: widths[column])] -= 1
        too_long -= 1
    cells = [
        [_within(cell, widths[column], room_of.get(column)).ljust(widths[column]) for column, cell in enumerate(row)]
        for row in shown
    ]
    return [GAP.join(row).rstrip() for row in cells]


def _within(cell: str, most_chars: int, room: Room | None) -> str:
    if len(cell) <= most_chars or room is None:
        return cell
    tail = cell[len(cell) - room.tail_chars :]
    return f"{cell[: most_chars - len(tail) - len(CUT)]}{CUT}{tail}"
