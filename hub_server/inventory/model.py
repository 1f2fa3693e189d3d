"""A section of an agent's inventory, and how its parts come together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.inventory import ITEMS_MAX, PART_MAX_BYTES, PARTS_MAX, SECTIONS, Section

ITEMS: Final = "items"
SECTION_MAX_BYTES: Final = PARTS_MAX * PART_MAX_BYTES


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
    """The parts of one section that came so far, in order, as JSON: decoded they take ten times as much."""

    hash: str
    parts: tuple[bytes, ...] = ()
    items: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.parts))

    def with_part(self, number: int, body: Mapping[str, Any]) -> Assembly | None:
        """Return the assembly with the part of this number, None when it is out of order.

        Raises NotInventory for more than one section may be.
        """
        if number != len(self.parts) + 1:
            return None
        if self.parts and ITEMS not in body:
            raise NotInventory("only lists come in parts")
        grown = Assembly(self.hash, (*self.parts, msgspec.json.encode(body)), self.items + len(body.get(ITEMS, ())))
        if grown.items > ITEMS_MAX or grown.size_bytes > SECTION_MAX_BYTES:
            raise NotInventory(f"more than {ITEMS_MAX} items, or {SECTION_MAX_BYTES} bytes")
        return grown

    def whole(self) -> dict[str, Any]:
        """Return the body of all parts: the first, with the items of every one."""
        bodies: list[dict[str, Any]] = [msgspec.json.decode(part) for part in self.parts]
        whole = bodies[0]
        if ITEMS in whole:
            whole[ITEMS] = [item for body in bodies for item in body[ITEMS]]
        return whole


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
