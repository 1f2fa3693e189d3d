"""The agents' side of somebody who has the hub's database, its bus and its TLS key: everything but the signer's key.

A real agent as a process, enrolled in a fleet whose keys are here, at a server that says whatever it is told.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from agent_client.paths import Places
from protocol.frames import Hello
from tests.agent_client.fleet import AGENT, Fleet, now_ms
from tests.agent_client.hub import Hub, Peer, running
from tests.system.programs import ROOT, all_gone, ended

CLOCK_TOLERANCE_MS: Final = 60_000
SHIFT: Final = "JTNT_PROOF_SHIFT_SECONDS"
SHIFTED_CLOCK: Final = f'''"""Lets every Python process of the agent live in another time."""
import os, time
_shift_ns = int(float(os.environ["{SHIFT}"]) * 1e9)
_time_ns, _time = time.time_ns, time.time
time.time_ns = lambda: _time_ns() + _shift_ns
time.time = lambda: _time() + _shift_ns / 1e9
'''


class StolenHub:
    """`fleet` signs what a true signer would; `peer` is the agent's newest session."""

    def __init__(self, fleet: Fleet, hub: Hub, folder: Path) -> None:
        self.fleet = fleet
        self.hub = hub
        self.folder = folder
        self.runs = folder / "runs"
        self.runs.mkdir()
        self._clock = folder / "clock"
        self._clock.mkdir()
        (self._clock / "sitecustomize.py").write_text(SHIFTED_CLOCK)
        self._sessions = 0
        self._process: asyncio.subprocess.Process | None = None
        self.peer: Peer

    async def start(self, name: str = "agent", agent_id: str = AGENT, shift_seconds: float = 0.0) -> Peer:
        """Start the agent of this folder; enroll it where that was not done yet."""
        places = Places.inside(self.folder / name)
        if not places.state.exists():
            self.fleet.enroll_by_hand(places, self.hub.port, agent_id=agent_id)
        time = {SHIFT: str(shift_seconds), "PYTHONPATH": str(self._clock)} if shift_seconds else {}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent_client.daemon", "--data-dir", str(places.state)),
                cwd=ROOT,
                env={**os.environ, **time},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._sessions += 1
        self.peer = await self.hub.peer(self._sessions)
        shown_ms = (await self.peer.first(Hello)).clock_ms
        assert abs(shown_ms - now_ms() - 1000 * shift_seconds) < CLOCK_TOLERANCE_MS, "the agent's clock is not shifted"
        return self.peer

    async def kill(self) -> None:
        """Kill the daemon with -9."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
            await all_gone([self._process.pid])

    async def close(self) -> None:
        if self._process is not None:
            await ended(self._process)

    def marks(self) -> int:
        """Return how many runs have left a mark."""
        return sum(len(path.read_text().splitlines()) for path in self.runs.iterdir())


@asynccontextmanager
async def stolen_hub() -> AsyncIterator[StolenHub]:
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-jobs-") as name:
        folder, fleet = Path(name), Fleet()
        async with running(fleet, folder, Hub()) as hub:
            stolen = StolenHub(fleet, hub, folder)
            try:
                yield stolen
            finally:
                await stolen.close()
