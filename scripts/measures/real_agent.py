"""A real agent: enrolled by its own command, running as its own daemon."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

from hub_server.bench.processes import Program, finished, own_program, start

WELCOME_DEADLINE_SECONDS: Final = 20.0
WELCOMED: Final = b'"session up"'


class RealAgent:
    """`folder` holds its configuration, certificates, spool and journal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program: Program | None = None

    @property
    def id(self) -> str:
        agent_id: str = json.loads((self._folder / "config.json").read_bytes())["agent_id"]
        return agent_id

    @property
    def pid(self) -> int:
        assert self._program is not None, "the agent is not started"
        return self._program.pid

    async def enroll(self, join_string: str) -> None:
        """Raises BenchFailed."""
        await finished(own_program("jtnt-agent", "enroll", join_string, "--data-dir", str(self._folder)), os.environ)

    async def start(self) -> float:
        """Start the daemon and return the seconds until it has logged the hub's `welcome`. Raises BenchFailed."""
        log = self._folder.with_suffix(".log")
        began_at = time.perf_counter()
        self._program = start(own_program("jtnt-agentd", "--data-dir", str(self._folder)), os.environ, log)
        await self._program.wait_for(lambda: WELCOMED in log.read_bytes(), "agent start", WELCOME_DEADLINE_SECONDS)
        return time.perf_counter() - began_at

    async def stop(self) -> None:
        if self._program is not None:
            await self._program.stop()
