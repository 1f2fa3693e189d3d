"""How a command tells the hub beside it that keys changed: after its commit it lets a file grow by a byte."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NEWS_NAME: Final = "keys.news"


def ring(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b".")


def news_in(path: Path) -> int:
    """Return how much was told so far."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
