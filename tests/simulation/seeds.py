"""Worlds one after the other: a seed in, the broken promises out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hub_server.commands import tables
from tests.simulation.chance import Chance
from tests.simulation.hub_database import HubDisk
from tests.simulation.stage import in_place
from tests.simulation.virtual_time import Deadlock, run_virtually
from tests.simulation.world import World

MEMORY: Final = Path("/dev/shm")


class Worlds:
    """Runs seeds; keeps what all of them can share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = HubDisk(tables)

    def breaches(self, seed: int, tell: Callable[[str], None] | None = None) -> list[str]:
        """Return what was broken, nothing when every promise held. `tell` gets the story, line by line."""
        chance = Chance(seed, tell)
        folder = self._folder / str(seed)
        folder.mkdir()
        try:
            with in_place(chance):
                return run_virtually(self._run(chance, folder))
        except Deadlock as deadlock:
            return [str(deadlock)]
        finally:
            shutil.rmtree(folder)

    def first_broken(self, seeds: range) -> tuple[int, list[str]] | None:
        """Return the first of `seeds` that breaks a promise, with what it broke."""
        for seed in seeds:
            found = self.breaches(seed)
            if found:
                return seed, found
        return None

    async def _run(self, chance: Chance, folder: Path) -> list[str]:
        return await World(chance, folder, self._disk).run()


@contextmanager
def worlds() -> Iterator[Worlds]:
    with tempfile.TemporaryDirectory(prefix="jtnt-simulation-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Worlds(Path(name))
