"""A real hub in a folder of its own, with an administrator, on free ports."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import aiohttp

from scripts.load.person import sign_in
from scripts.measures.exposition import Series, series_in
from scripts.measures.processes import Program, finished, own_module, own_program, start

USERNAME: Final = "bench"
READY_DEADLINE_SECONDS: Final = 30.0
READY_ANSWER_SECONDS: Final = 5.0
ACCESS_SECONDS: Final = 3600
OPERATIONS_PER_SECOND: Final = 10_000
"""One administrator asks what a whole staff would."""
TOKEN_TTL: Final = "1h"  # noqa: S105  a time
LOOPBACK: Final = "127.0.0.1"
REQUEST_DEADLINE: Final = aiohttp.ClientTimeout(total=10)


class Hub:
    """One data folder and the hub that runs on it, at most one at a time. `variables`: further settings."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._variables = variables or {}
        self.web_port, self.agent_port = free_ports()
        self._password = secrets.token_urlsafe(18)
        self._program: Program | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "JTNT_DATA_DIR": str(self.folder),
            "JTNT_PEOPLE__PORT": str(self.web_port),
            "JTNT_AGENTS__PORT": str(self.agent_port),
            "JTNT_PUBLIC__AGENT_URL": f"https://localhost:{self.agent_port}",
            "JTNT_ACCESS__ACCESS_TOKEN_SECONDS": str(ACCESS_SECONDS),
            "JTNT_ACCESS__OPERATIONS_PER_SECOND": str(OPERATIONS_PER_SECOND),
            **self._variables,
        }

    @property
    def web_url(self) -> str:
        return f"http://{LOOPBACK}:{self.web_port}"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> Program:
        assert self._program is not None, "the hub is not started"
        return self._program

    async def create_administrator(self) -> None:
        """Raises BenchFailed."""
        person = ("users", "create", USERNAME, "--role", "org-admin", "--password-stdin")
        await finished(own_program("jtnt-hub", *person), self.environment, self._password + "\n")

    async def start(self) -> float:
        """Start the hub and return the seconds until `/readyz` says that it serves. Raises BenchFailed."""
        began_at = time.perf_counter()
        self._program = start(
            own_module("scripts.measures.observed_hub", "serve"), self.environment, self.folder.with_suffix(".log")
        )
        await self.wait_until_ready()
        return time.perf_counter() - began_at

    async def start_as_users_do(self) -> float:
        """Do as `start`, with the installed program."""
        began_at = time.perf_counter()
        self._program = start(own_program("jtnt-hub", "serve"), self.environment, self.folder.with_suffix(".log"))
        await self.wait_until_ready()
        return time.perf_counter() - began_at

    async def wait_until_ready(self) -> None:
        """Raises BenchFailed."""
        await self._running.wait_for(self._is_ready, "hub start", READY_DEADLINE_SECONDS)

    async def stop(self) -> None:
        if self._program is not None:
            await self._program.stop()

    async def join_string(self, uses: int) -> str:
        """Return the line that lets `uses` machines join."""
        order = ("token", "create", "--uses", str(uses), "--ttl", TOKEN_TTL, "--json")
        said: str = json.loads(await finished(own_program("jtnt-hub", *order), self.environment))["joinString"]
        return said

    async def access_token(self) -> str:
        return await sign_in(self.web_url, USERNAME, self._password)

    async def metrics(self) -> Series:
        """Return what the hub says of itself now."""
        url = f"{self.web_url}/metrics"
        async with aiohttp.ClientSession(timeout=REQUEST_DEADLINE) as http, http.get(url) as answer:
            answer.raise_for_status()
            return series_in(await answer.text())

    def _is_ready(self) -> bool:
        with closing(HTTPConnection(LOOPBACK, self.web_port, timeout=READY_ANSWER_SECONDS)) as connection:
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == HTTPStatus.OK
            except OSError:
                return False


def free_ports() -> tuple[int, int]:
    with closing(socket.socket()) as one, closing(socket.socket()) as other:
        for probe in (one, other):
            probe.bind((LOOPBACK, 0))
        return one.getsockname()[1], other.getsockname()[1]
