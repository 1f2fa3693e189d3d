"""Versions of packages put in order, as the package managers of Debian and Red Hat do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

Number = tuple[int, str]
VersionKey = tuple[Number, tuple[tuple[tuple[int, ...], Number], ...]]

_PIECE: Final = re.compile(r"([^0-9]*)([0-9]*)")
_END: Final = 0
_RANKS: Final[Mapping[str, int]] = {"~": -1, "-": 1, "^": 2}
"""`~` marks what comes before a release; a revision (`-`) or a snapshot (`^`) comes before a longer number."""
_AFTER_LETTERS: Final = 0x110000
"""Above every code point: what is no letter sorts after all letters."""


@lru_cache(maxsize=8192)
def version_key(version: str) -> VersionKey:
    """Return what puts versions in order: an epoch before a colon, then pieces, numbers by value.

    A leading `v` counts for nothing. Of any two texts one is at most the other.
    """
    text = version.strip()
    if re.match(r"[vV][0-9]", text):
        text = text[1:]
    epoch, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[0-9]+", epoch):
        epoch, rest = "", text
    pieces = [(_signs(signs), _number(digits)) for signs, digits in _PIECE.findall(rest) if signs or digits]
    return (_number(epoch), (*pieces, (_signs(""), _number(""))))


def _signs(text: str) -> tuple[int, ...]:
    return (*(_rank(sign) for sign in text), _END)


def _rank(sign: str) -> int:
    known = _RANKS.get(sign)
    if known is not None:
        return known
    return ord(sign) if sign.isalpha() else ord(sign) + _AFTER_LETTERS


def _number(digits: str) -> Number:
    """Return digits so that they compare by value, however many there are."""
    significant = digits.lstrip("0")
    return (len(significant), significant)
