"""A hub in a process of its own and real agents in a few, which proofs kill and start again."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from agent_client.enrollment.enroll import Enrollment
from agent_client.enrollment.hub import HubAddress, HubDoor
from agent_client.paths import Places
from hub_server.bench.processes import end_with_parent, raise_file_limit
from protocol.identity import JoinString
from scripts.load.person import Person, dashboard
from scripts.measures.hub import Hub
from tests.system.samples import Comparison, compared_all

QUICK: Final = {
    "first_retry_spread_seconds": 3.0,
    "backoff_initial_seconds": 1.0,
    "backoff_max_seconds": 5.0,
    "backoff_stable_seconds": 5.0,
}
"""Retries that fit a proof: kills come every ten seconds."""
QUIET_CONFIG: Final = {"inventoryEnabled": False, "securityChecksEnabled": False}
HUB: Final = {
    "JTNT_LIMITS__CONNECTIONS": "100000",
    "JTNT_LIMITS__CONNECTIONS_PER_ADDRESS": "100000",
    "JTNT_ACCESS__OPERATIONS_PER_SECOND": "10000",
    "JTNT_ACCESS__OPERATIONS_AT_ONCE": "100000",
}
"""All agents call from one address here."""
AT_ONCE: Final = 8
FILES: Final = 8192
STOP_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 2.0


class Crew:
    """Some agents in one process."""

    def __init__(self, folders: Sequence[Path], log: Path) -> None:
        self._folders = folders
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scripts.proofs.telemetry.crew", *map(str, self._folders)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509  this program starts no threads before
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    async def stop(self) -> None:
        """End the agents in their own order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self._process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()


class RealFleet:
    """A running hub, agents that are enrolled, and the crews they run in."""

    def __init__(self, hub: Hub, folders: Mapping[str, Path], crews: Sequence[Crew]) -> None:
        self.hub = hub
        self.folders = folders
        self.crews = crews

    async def kill_hub(self) -> None:
        """Kill the hub with -9 and start it again; return once it serves."""
        await self.hub.kill()
        await self.hub.start()

    async def comparisons(self) -> dict[str, Comparison]:
        spools = {agent_id: folder / "spool.db" for agent_id, folder in self.folders.items()}
        return await compared_all(spools, self.hub.folder)

    async def drained(self, left: int = 0) -> dict[str, Comparison]:
        """Return the comparison once at most `left` samples an agent wait. Raises TimeoutError."""
        async with asyncio.timeout(DRAIN_SECONDS):
            while True:
                found = await self.comparisons()
                if all(each.waiting <= left for each in found.values()):
                    return found
                await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def watched(self, handlers: Mapping[str, Any]) -> AsyncIterator[Person]:
        async with dashboard(self.hub.web_url, await self.hub.access_token(), handlers) as person:
            yield person


@asynccontextmanager
async def real_fleet(
    count: int,
    *,
    crews: int,
    sample_seconds: int,
    heartbeat_seconds: int = 30,
    serve: Sequence[str] | None = None,
    data_dir: Path | None = None,
) -> AsyncIterator[RealFleet]:
    """Start a hub and enroll `count` agents, who sample every `sample_seconds`; crews are not started yet.

    `serve`: another program than the hub's own. `data_dir`: where the hub's folder shall be.
    """
    raise_file_limit(FILES)
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-") as name:
        folder = Path(name)
        hub = Hub(data_dir or folder / "hub", HUB, serve)
        await hub.start()
        try:
            await hub.create_administrator()
            folders = await enrolled(await hub.join_string(uses=count), folder, count)
            fleet = RealFleet(hub, folders, list(crews_of(list(folders.values()), crews, folder)))
            config = {**QUIET_CONFIG, "sampleIntervalSec": sample_seconds, "heartbeatIntervalSec": heartbeat_seconds}
            async with fleet.watched({}) as person:
                for agent_id in folders:
                    await person.ask("agents:update", agentId=agent_id, config=config)
            try:
                yield fleet
            finally:
                for crew in fleet.crews:
                    crew.kill()
        finally:
            await hub.stop()


async def enrolled(join_string: str, folder: Path, count: int) -> dict[str, Path]:
    """Return the folder of each new agent by its id."""
    invitation = JoinString.parse(join_string)
    slots = asyncio.Semaphore(AT_ONCE)

    def enroll(own: Path) -> str:
        door = HubDoor(HubAddress.parse(invitation.hub_url))
        config = Enrollment(Places.chosen(str(own)), door, invitation.token, lambda _text: None).run(
            force=False, approval_timeout_seconds=0
        )
        path = own / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **QUICK}))
        path.chmod(0o600)
        return config.agent_id

    async def one(number: int) -> tuple[str, Path]:
        own = folder / f"agent-{number:03}"
        async with slots:
            return await asyncio.to_thread(enroll, own), own

    return dict(await asyncio.gather(*(one(number) for number in range(count))))


def crews_of(folders: Sequence[Path], crews: int, folder: Path) -> Iterator[Crew]:
    for number in range(crews):
        yield Crew(folders[number::crews], folder / f"crew-{number:02}.log")


def summed(found: Mapping[str, Comparison]) -> Comparison:
    """Return all agents' comparisons as one."""
    return Comparison(*(sum(column) for column in zip(*(_values(each) for each in found.values()), strict=True)))


def _values(each: Comparison) -> tuple[int, ...]:
    return each.taken, each.waiting, each.dropped, each.stored, each.lost, each.surplus
