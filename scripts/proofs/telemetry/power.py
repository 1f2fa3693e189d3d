"""The hub's power is cut again and again: every sample it acknowledged is there."""

from __future__ import annotations

import asyncio
import ctypes.util
import os
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from hub_server.bench.processes import end_with_parent, own_module
from scripts.proofs.report import Report
from scripts.proofs.telemetry.fleet import real_fleet, summed
from scripts.proofs.telemetry.kills import kill_crew
from tests.system.programs import ended, outcome_of

AGENTS: Final = 40
CREWS: Final = 2
CUTS: Final = 20
STEADY_SECONDS: Final = 6.0
STEP_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.02


class NoFuse(RuntimeError):
    """File systems cannot be mounted by programs here; the message says what is missing."""


class Disk(NamedTuple):
    """A mounted folder that forgets what was not synced."""

    mount: Path
    process: asyncio.subprocess.Process

    async def cut(self) -> int:
        """Cut the power; return how many writes were forgotten. Raises TimeoutError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"cut\n")
        async with asyncio.timeout(STEP_SECONDS):
            return int(await self.process.stdout.readline())


async def show(report: Report) -> None:
    await report.show(
        "power cut 20 times (writes that were not synced are gone): every acknowledged sample there", full
    )


async def full() -> str:
    return await cut_often(AGENTS, CREWS, CUTS, STEADY_SECONDS)


async def cut_often(agents: int, crews: int, cuts: int, steady_seconds: float) -> str:
    """Cut the hub's power, and kill some agents each time; return what was compared.

    Raises AssertionError when an acknowledged sample is missing, NoFuse, TimeoutError.
    """
    forgotten = []
    async with (
        forgetful_disk() as disk,
        real_fleet(agents, crews=crews, sample_seconds=1, data_dir=disk.mount / "hub") as fleet,
    ):
        for crew in fleet.crews:
            crew.start()
        for _ in range(cuts):
            await asyncio.sleep(steady_seconds + random.random())  # noqa: S311  a moment of chance
            await kill_crew(fleet)
            await fleet.hub.kill()
            forgotten.append(await disk.cut())
            await fleet.hub.start()
        await asyncio.sleep(steady_seconds)
        for crew in fleet.crews:
            await crew.stop()
        await fleet.hub.stop()
        found = await fleet.comparisons()
        wrong = [str(each) for each in found.values() if not each.is_exact]
        assert not wrong, f"{len(wrong)} of {agents} agents: {wrong[0]}"
        total = summed(found)
        assert total.stored > agents * cuts, total
        assert sum(forgotten), "no cut found anything unsynced: this shows nothing"
        return f"{cuts} cuts, {sum(forgotten)} writes forgotten (up to {max(forgotten)} at once): {total}"


@asynccontextmanager
async def forgetful_disk() -> AsyncIterator[Disk]:
    """Mount one for the block. Raises NoFuse where that cannot be."""
    if not (os.access("/dev/fuse", os.R_OK | os.W_OK) and ctypes.util.find_library("fuse")):
        raise NoFuse("a power cut needs /dev/fuse and libfuse2 (apt install libfuse2), as root")
    with tempfile.TemporaryDirectory(prefix="jtnt-power-") as name:
        mount, backing = Path(name) / "mount", Path(name) / "backing"
        mount.mkdir()
        backing.mkdir()
        process = await asyncio.create_subprocess_exec(
            *own_module("scripts.proofs.telemetry.forgetful", str(backing), str(mount)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=end_with_parent,
        )
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while not mount.is_mount():
                    if process.returncode is not None:
                        raise NoFuse("the file system could not be mounted; it says why above")
                    await asyncio.sleep(LOOK_SECONDS)
            yield Disk(mount, process)
        finally:
            await outcome_of("umount", "--lazy", str(mount))
            await ended(process)
