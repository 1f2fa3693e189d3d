"""This project's files alone, in a folder of their own, with an empty home and empty caches."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SUITE_DEADLINE_SECONDS: Final = 1200.0


@dataclass(frozen=True, slots=True)
class BareCopy:
    """A copy as somebody has it who fetched the project a moment ago, on a machine with Python alone."""

    folder: Path
    home: Path

    @property
    def python(self) -> str:
        """Return the machine's own Python: no virtual environment's."""
        return str(Path(getattr(sys, "_base_executable", sys.executable)))

    def command(self, *verb: str) -> tuple[str, ...]:
        """Return one of the README's commands."""
        return (self.python, "scripts/dev.py", *verb)

    @property
    def variables(self) -> Mapping[str, str]:
        """Return the environment: nothing that an earlier set-up left."""
        folders = [part for part in os.environ["PATH"].split(os.pathsep) if not part.startswith(str(ROOT / ".venv"))]
        return {
            "PATH": os.pathsep.join(folders),
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "VIRTUAL_ENV": "",
        }

    async def run(self, *command: str) -> tuple[int, str]:
        """Run a command in the copy; return its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env={**os.environ, **self.variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SUITE_DEADLINE_SECONDS):
            said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode(errors="replace")


def bare_copy(folder: Path) -> BareCopy:
    """Copy what git knows or would take, and nothing that any set-up made."""
    copy = BareCopy(folder / "copy", folder / "home")
    copy.home.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            target = copy.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    return copy
