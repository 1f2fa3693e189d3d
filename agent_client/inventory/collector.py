"""The inventory as a collector of the daemon: its rounds fill the shelf, and yield no samples."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from agent_client.children import Child, own_environment, own_module, run_child
from agent_client.collectors.readings import Readings
from agent_client.collectors.watch import Watch
from agent_client.errors import AgentError
from agent_client.inventory.shelf import Shelf
from agent_client.security.stamps import INSTALLED

INTERVAL_SECONDS: Final = 6 * 3600.0
FIRST_AFTER_SECONDS: Final = (20.0, 60.0)
TIMEOUT_SECONDS: Final = 300.0
OUTPUT_MAX_BYTES: Final = 4096


class InventoryIncomplete(AgentError):
    """A section could not be collected; the message says which."""

    code: ClassVar[str] = "inventory_incomplete"


class InventoryCollector:
    """Every six hours, and soon after packages were installed or removed."""

    name: Final = "inventory"
    interval_seconds: Final = INTERVAL_SECONDS

    def __init__(self, folder: Path, shelf: Shelf, is_wanted: Callable[[], bool]) -> None:
        self._folder = folder
        self._shelf = shelf
        self._is_wanted = is_wanted
        self._watch = Watch(INSTALLED, is_wanted)

    def is_wanted(self) -> bool:
        return self._is_wanted()

    def first_wait_seconds(self) -> float:
        return random.uniform(*FIRST_AFTER_SECONDS)  # noqa: S311  spreads load, no secret

    async def collect(self) -> Readings:
        """Raises ChildFailed or InventoryIncomplete; sections that could be collected are on the shelf then too."""
        self._watch.reset()
        child = Child(
            argv=own_module("agent_client.inventory", str(self._folder)),
            timeout_seconds=TIMEOUT_SECONDS,
            output_max_bytes=OUTPUT_MAX_BYTES,
            environment=own_environment(),
        )
        ended = await run_child(child)
        self._shelf.refresh()
        if ended.exit_code != 0:
            raise InventoryIncomplete(f"the process that collects it {ended.story}")
        return {}

    async def woken(self) -> None:
        await self._watch.changed()
