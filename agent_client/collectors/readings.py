"""What collectors return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.frames import MetricValue

Figures = dict[str, MetricValue]
Readings = Mapping[str, Figures]
"""Figures by metric type."""

TYPE_MAX_CHARS: Final = 128
TEXT_MAX_CHARS: Final = 256


def wire_text(text: str, max_chars: int = TEXT_MAX_CHARS) -> str:
    """Return text of the machine as a frame can hold it: names there may be any bytes."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "")[:max_chars]


def type_of(family: str, name: str) -> str:
    return wire_text(f"{family}.{name}", TYPE_MAX_CHARS)
