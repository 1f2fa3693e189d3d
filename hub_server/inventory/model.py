"""A section of an agent's inventory, and how its parts come together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.inventory import ITEMS_MAX, SECTIONS, Section

ITEMS: Final = "items"


class StoredSection(Struct, frozen=True):
    organisation_id: str
    agent_id: str
    section: Section
    hash: str
    stored_at: datetime
    body: dict[str, Any]


class NotInventory(ValueError):
    """What an agent sent is no section this hub knows, or not of its form."""


class Assembly(Struct, frozen=True):
    """The parts of one section that came so far, in order."""

    hash: str
    parts: tuple[Mapping[str, Any], ...] = ()

    def with_part(self, number: int, body: Mapping[str, Any]) -> Assembly | None:
        """Return the assembly with the part of this number, None when it is out of order."""
        return Assembly(self.hash, (*self.parts, body)) if number == len(self.parts) + 1 else None


def section_of(name: str) -> Section:
    """Raises NotInventory."""
    try:
        return Section(name)
    except ValueError as error:
        raise NotInventory(f"there is no section {name[:64]!r}") from error


def checked(section: Section, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` with the fields of its section and no others. Raises NotInventory."""
    try:
        kept: dict[str, Any] = msgspec.to_builtins(msgspec.convert(body, SECTIONS[section]))
    except msgspec.ValidationError as error:
        raise NotInventory(f"{section}: {error}") from error
    return kept


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the body of all parts: the first, with the items of every one. Raises NotInventory."""
    whole = dict(parts[0])
    if ITEMS in whole:
        whole[ITEMS] = [item for part in parts for item in part.get(ITEMS, ())]
        if len(whole[ITEMS]) > ITEMS_MAX:
            raise NotInventory(f"more than {ITEMS_MAX} items")
    elif len(parts) > 1:
        raise NotInventory("only lists come in parts")
    return whole
