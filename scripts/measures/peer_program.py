"""Servers of others, fetched and started for the comparison in the same run."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import hatch_build
from hub_server.bench.hub import free_ports
from hub_server.bench.processes import Program, start

SOURCES: Final = Path(__file__).resolve().parent.parent / "peers"
START_DEADLINE_SECONDS: Final = 20.0
LISTENING: Final = b"listening"


class NoPeer(Exception):
    """There is none on this machine; the message says why."""


async def node_argv(name: str, cache: Path) -> list[str]:
    """Install what the Node server `name` needs into `cache`, unless it is there, and return how to start it.

    Raises NoPeer.
    """
    try:
        return await asyncio.to_thread(_installed, SOURCES / name, cache / name)
    except hatch_build.BundleFailed as failure:
        raise NoPeer(f"no {name} here: {failure}") from failure


def _installed(source: Path, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        shutil.copy2(file, folder / file.name)
    npm = hatch_build.npm_here()
    hatch_build.install_packages(npm, folder)
    return [npm.argv[0], "--expose-gc", str(folder / "server.mjs")]


@asynccontextmanager
async def serving(argv: Sequence[str], log: Path, *arguments: str) -> AsyncIterator[tuple[Program, int]]:
    """Run a server for the block, on the port that is yielded with it. It gets the port first, then `arguments`.

    Raises BenchFailed.
    """
    port, _ = free_ports()
    program = start([*argv, str(port), *arguments], os.environ, log)
    try:
        await program.wait_for(lambda: LISTENING in log.read_bytes(), f"{log.stem} start", START_DEADLINE_SECONDS)
        yield program, port
    finally:
        await program.stop()
