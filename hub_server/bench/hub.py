"""A real hub in a folder of its own, on free ports of this machine."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Final

import aiohttp

from hub_server.bench.exposition import Series, series_in
from hub_server.bench.processes import Program, finished, keep_on, own_program, start

READY_DEADLINE_SECONDS: Final = 60.0
READY_ANSWER_SECONDS: Final = 5.0
TOKEN_TTL: Final = "1h"  # noqa: S105  a time
LOOPBACK: Final = "127.0.0.1"
REQUEST_DEADLINE: Final = aiohttp.ClientTimeout(total=10)


class Hub:
    """One data folder and the hub that runs on it, at most one at a time.

    `variables`: further settings. `serve`: the program that runs it, by default the one that users start.
    """

    def __init__(
        self, folder: Path, variables: Mapping[str, str] | None = None, serve: Sequence[str] | None = None
    ) -> None:
        self.folder = folder
        self.web_port, self.agent_port = free_ports()
        self.web_certificate: Path | None = None
        """Chain and key of the people's listener, from the next start on; without it that is plain HTTP."""
        self._variables = variables or {}
        self._serve = serve or own_program("jtnt-hub", "serve")
        self._program: Program | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("JTNT_")}
        return {
            **inherited,
            "JTNT_DATA_DIR": str(self.folder),
            "JTNT_PEOPLE__PORT": str(self.web_port),
            "JTNT_AGENTS__PORT": str(self.agent_port),
            "JTNT_PUBLIC__AGENT_URL": f"https://localhost:{self.agent_port}",
            **self._people_tls,
            **self._variables,
        }

    @property
    def _people_tls(self) -> Mapping[str, str]:
        pem = self.web_certificate
        return {} if pem is None else {"JTNT_PEOPLE__CERTIFICATE": str(pem), "JTNT_PEOPLE__KEY": str(pem)}

    @property
    def web_url(self) -> str:
        return f"{'https' if self.web_certificate else 'http'}://{LOOPBACK}:{self.web_port}"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> Program:
        assert self._program is not None, "the hub is not started"
        return self._program

    async def start(self, cores: set[int] | None = None) -> float:
        """Start the hub, on `cores` alone if given, and return the seconds until `/readyz` says that it serves.

        Raises BenchFailed.
        """
        return await self.start_by(self._serve, cores)

    async def start_by(self, serve: Sequence[str], cores: set[int] | None = None) -> float:
        """Do as `start`, with another program."""
        began_at = time.perf_counter()
        self._program = start(serve, self.environment, self.folder.with_suffix(".log"))
        if cores:
            keep_on(self.pid, cores)
        await self.wait_until_ready()
        return time.perf_counter() - began_at

    async def start_if_down(self) -> None:
        """Start the hub unless it runs. Raises BenchFailed."""
        if self._program is None or self._program.has_ended:
            await self.start()

    async def wait_until_ready(self) -> None:
        """Raises BenchFailed."""
        await self._running.wait_for(self._is_ready, "hub start", READY_DEADLINE_SECONDS)

    async def stop(self) -> None:
        if self._program is not None:
            await self._program.stop()

    async def kill(self) -> None:
        await self._running.kill()

    async def join_string(self, uses: int) -> str:
        """Return the line that lets `uses` machines join. Raises BenchFailed."""
        order = ("token", "create", "--uses", str(uses), "--ttl", TOKEN_TTL, "--json")
        said: str = json.loads(await finished(own_program("jtnt-hub", *order), self.environment))["joinString"]
        return said

    async def metrics(self) -> Series:
        """Return what the hub says of itself now."""
        url = f"{self.web_url}/metrics"
        async with aiohttp.ClientSession(timeout=REQUEST_DEADLINE) as http, http.get(url) as answer:
            answer.raise_for_status()
            return series_in(await answer.text())

    def _connection(self) -> HTTPConnection:
        if self.web_certificate is None:
            return HTTPConnection(LOOPBACK, self.web_port, timeout=READY_ANSWER_SECONDS)
        return HTTPSConnection(LOOPBACK, self.web_port, timeout=READY_ANSWER_SECONDS, context=blind_context())

    def _is_ready(self) -> bool:
        with closing(self._connection()) as connection:
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == HTTPStatus.OK
            except OSError:
                return False


def blind_context() -> ssl.SSLContext:
    """Return a context that believes any server: for a certificate whose host this machine is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def free_ports() -> tuple[int, int]:
    with closing(socket.socket()) as one, closing(socket.socket()) as other:
        for probe in (one, other):
            probe.bind((LOOPBACK, 0))
        return one.getsockname()[1], other.getsockname()[1]
