"""Rows of text in columns, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def visible(text: str) -> str:
    """Return `text` with all that a terminal would obey, or not show, made visible: a stranger may have sent it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equally many cells, the first one being the titles, each column as wide as its widest cell."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    for row in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
