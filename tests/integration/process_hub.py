"""A real hub as a process of its own, with its real log at the finest level."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hub_server.clock import SystemClock
from protocol.enumerations import Role
from tests.integration.hub import ADMINISTRATOR, START_DEADLINE_SECONDS, STOP_DEADLINE_SECONDS, RunningHub

POLL_SECONDS = 0.05


class ProcessHub(RunningHub):
    """`jtnt-hub serve` on one folder; `log` is what it printed. `program`: what is started in place of `jtnt-hub`."""

    def __init__(
        self,
        folder: Path,
        *,
        log: Path,
        database_url: str | None = None,
        program: Sequence[str] = (str(Path(sys.executable).parent / "jtnt-hub"),),
        **variables: str,
    ) -> None:
        super().__init__(folder, database_url=database_url)
        self.log = log
        self._program = program
        self._told_before_chars = 0
        self._variables = variables
        self._process: Process | None = None

    async def start(self) -> None:
        """Return once both listeners are open."""
        url = {} if self._database_url is None else {"JTNT_DATABASE_URL": self._database_url}
        self._told_before_chars = len(self.log.read_text()) if self.log.exists() else 0
        given = {"JTNT_PEOPLE__PORT": "0", "JTNT_AGENTS__PORT": "0", "JTNT_LOG_LEVEL": "debug"}
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._program,
                "serve",
                "--data-dir",
                self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **given, **url, **self._variables},
            )
        async with asyncio.timeout(START_DEADLINE_SECONDS):
            while not (ports := self._ports()):
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(POLL_SECONDS)
        self._people_port, self._agents_port = ports
        self._authority = await self.authority_at(SystemClock())

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE_SECONDS):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _ports(self) -> tuple[int, int] | None:
        for line in self.log.read_text()[self._told_before_chars :].splitlines():
            if '"people_port"' in line:
                record: dict[str, Any] = json.loads(line)
                return record["people_port"], record["agents_port"]
        return None


@asynccontextmanager
async def process_hub(folder: Path, **options: Any) -> AsyncIterator[ProcessHub]:
    """A hub with its administrator, until the block ends. Its log is beside `folder`."""
    hub = ProcessHub(folder, log=folder.with_suffix(".log"), **options)
    try:
        await hub.start()
        await hub.add_user(ADMINISTRATOR, Role.ORG_ADMIN)
        yield hub
    finally:
        await hub.close()
