"""The sections of the inventory on disk, ready in parts, as the daemon reads them: never more at once than it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent_client.store.secure import SecureStore, StoreError

INDEX: Final = "index.json"


class Stored(Struct, frozen=True):
    """A section as it was collected last; `file` has a part a line."""

    hash: str
    parts: int
    file: str


class Shelf:
    """What was collected last, and what of it the hub holds. `news` is set when either has changed."""

    def __init__(self, folder: Path) -> None:
        self.news = asyncio.Event()
        self._folder = folder
        self._sections = index_of(folder)
        self._held: dict[str, str] = {}

    def refresh(self) -> None:
        """Take up what was collected meanwhile."""
        self._sections = index_of(self._folder)
        self.news.set()

    def hub_holds(self, hashes: Mapping[str, str]) -> None:
        """Take the word of a welcome: the hash of each section that the hub has."""
        self._held = dict(hashes)
        self.news.set()

    def acknowledge(self, section: str, hash_: str) -> None:
        self._held[section] = hash_
        self.news.set()

    def owed(self) -> dict[str, Stored]:
        """Return the sections that the hub does not hold as they are."""
        return {name: stored for name, stored in self._sections.items() if self._held.get(name) != stored.hash}

    def part(self, stored: Stored, number: int) -> dict[str, Any] | None:
        """Return part `number`, counted from 1; None where the section was collected anew meanwhile."""
        try:
            with (self._folder / stored.file).open("rb") as file:
                line = next(islice(file, number - 1, number), b"")
            return msgspec.json.decode(line, type=dict[str, Any])
        except (OSError, msgspec.MsgspecError):
            return None


def index_of(folder: Path) -> dict[str, Stored]:
    """Return what lies there by section; nothing where the index cannot be read."""
    store = SecureStore(folder)
    try:
        return msgspec.json.decode(store.load(INDEX), type=dict[str, Stored]) if store.exists(INDEX) else {}
    except (StoreError, msgspec.MsgspecError):
        return {}
