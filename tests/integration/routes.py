"""Every route of a hub in every spelling, asked without credentials and without a client library that would mend it."""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch

from hub_server import lifecycle
from hub_server.lifecycle import Hub, Listener

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
REFUSALS: Final = frozenset({400, 401, 403, 404, 429})
AT_ONCE: Final = 16
SIGN_IN_PATHS: Final = tuple(f"/api/v1/auth/{name}" for name in ("sign-in", "refresh", "sign-out"))
PUBLIC: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    "people": frozenset(
        {(method, path) for method in ("GET", "HEAD") for path in ("/", "/healthz", "/readyz", "/metrics")}
        | {(method, path) for method in ("GET", "HEAD") for path in ("/agent-dashboard.html", "/{name}")}
        | {(method, "/assets/{name}") for method in ("GET", "HEAD")}
        | {("OPTIONS", path) for path in (*SIGN_IN_PATHS, "/ws/agents/")}
    ),
    "agents": frozenset({("GET", "/api/v1/agent/ca")}),
}
"""Routes that answer a stranger of this machine; whoever adds one says so here."""


@contextmanager
def seen_tables(tables: dict[str, set[tuple[str, str]]]) -> Iterator[None]:
    """Fill `tables` with (method, path) of every listener of the hubs that start in the block."""
    run = lifecycle.run

    async def seen(hub: Hub, **options: Any) -> None:
        for listener in hub.listeners:
            tables.setdefault(listener.name, set()).update(table_of(listener))
        await run(hub, **options)

    with patch.object(lifecycle, "run", seen):
        yield


def table_of(listener: Listener) -> Iterator[tuple[str, str]]:
    for route in listener.application.router.routes():
        assert route.resource is not None
        yield route.method, route.resource.canonical


def spellings(path: str) -> Iterator[str]:
    """Return ways to write `path` which some parser or proxy somewhere takes for it."""
    filled = re.sub(r"\{\w+\}", "index.html", path)
    last = filled.rstrip("/").rpartition("/")[2]
    yield filled
    yield f"{filled}/"
    yield f"{filled}//"
    yield f"/{filled}"
    yield filled.replace("/", "//")
    yield f"/.{filled}"
    yield f"/x/..{filled}"
    yield f"{filled}/x/.."
    yield f"{filled}/../{last}"
    yield f"{filled}/%2e%2e/{last}"
    yield "/" + filled[1:].replace("/", "%2f")
    yield "/" + filled[1:].replace("/", "%2F")
    yield "/" + filled[1:].replace("/", "%252f")
    yield "/" + filled[1:].replace("/", "%c0%af")
    yield "/" + filled[1:].replace("/", "\\")
    yield f"%2f{filled[1:]}"
    yield f"{filled};x"
    yield f"{filled};/../"
    yield f"{filled}%3bx"
    yield filled.upper()
    yield filled.swapcase()
    yield f"{filled}\0"
    yield f"{filled}%00"
    yield f"{filled}%00.html"
    yield f"{filled}%20"
    yield f"{filled}."
    yield f"{filled}~"
    yield f"{filled}?x=1"
    yield f"{filled}?"
    yield f"{filled}#x"
    yield f"{filled}%0d%0aX-Y:%20z"
    yield filled[1:] or "x"
    yield f"http://localhost{filled}"
    yield f"https://evil.example{filled}"
    yield f"//evil.example{filled}"


BEYOND: Final = (
    "*",
    "/../hub.db",
    "/%2e%2e/hub.db",
    "/assets/../../hub.db",
    "/assets/..%2f..%2fhub.db",
    "/assets/%2e%2e/%2e%2e/config.py",
    "/assets/.stamp",
    "/.env",
    "/hub.toml",
    "/pki/root.key",
    "/debug",
    "/admin",
    "/api",
    "/api/v1",
    "/api/v1/agents",
    "/socket.io/",
    "/ws",
)
"""Addresses that are in no table."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How strangers were met: `statuses` → how often, and `wrong`: what was answered that should have been refused."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def ask_all(
    name: str, table: set[tuple[str, str]], port: int, *, tls: ssl.SSLContext | None, methods: Sequence[str] = METHODS
) -> Asked:
    """Ask every route of `table`, and what is BEYOND it, by every method in every spelling."""
    asked = Asked()
    waiting = itertools.chain(
        (
            (method, path, spelt)
            for path in sorted({path for _, path in table})
            for spelt in spellings(path)
            for method in methods
        ),
        ((method, None, spelt) for spelt in BEYOND for method in methods),
    )

    async def ask_some(address: str) -> None:
        for method, path, spelt in waiting:
            status = await status_of(method, spelt, port, address, tls)
            asked.statuses[status] += 1
            is_public = path is not None and (method, path) in PUBLIC[name]
            if status not in REFUSALS and not (is_public and status < 500):
                asked.wrong.append(f"{method} {spelt!r}: {status}")

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(ask_some(f"127.4.0.{number + 1}"), name=f"ask-{number}")
    return asked


async def status_of(method: str, target: str, port: int, address: str, tls: ssl.SSLContext | None) -> int:
    """Return the status of one request that is sent as it stands."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None, local_addr=(address, 0)
    )
    try:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode("latin-1"))
        async with asyncio.timeout(10):
            line = await reader.readline()
        return int(line.split()[1])
    finally:
        writer.transport.abort()
