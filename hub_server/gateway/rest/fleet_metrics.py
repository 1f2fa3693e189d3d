"""The newest values of all machines for Prometheus: an option, for it is a line a value and machine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from hub_server.clock import Clock, milliseconds
from hub_server.gateway.rest.metrics import MetricsDoor
from protocol.frames import MetricValue

PREFIX: Final = "jtnt_agent_"
FRESH_MS: Final = 5 * 60 * 1000
"""Older values are left out: a machine that is gone must not look alive."""
LINES_AT_ONCE: Final = 500
SYSTEM: Final = "system"
PARTED: Final = ("disk", "interface", "custom")
"""Types that are one of several: what follows their first point is the label `part`."""

_NO_NAME: Final = re.compile(r"[^a-zA-Z0-9_]+")


class Machine(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def organisation_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def site(self) -> str: ...


class Newest(Protocol):
    @property
    def ts_ms(self) -> int: ...
    @property
    def data(self) -> Mapping[str, MetricValue]: ...


class Machines(Protocol):
    def everywhere(self) -> Iterable[Machine]:
        """Return the machines of every organisation."""


class NewestValues(Protocol):
    def newest(self, agent_id: str) -> Mapping[str, Newest]:
        """Return the newest sample of each metric type."""


class Line(NamedTuple):
    family: str
    labels: str
    value: float


class FleetMetricsRoutes:
    """`/metrics/fleet`, for whoever may read `/metrics`."""

    def __init__(self, *, door: MetricsDoor, clock: Clock, machines: Machines, values: NewestValues) -> None:
        self._door = door
        self._clock = clock
        self._machines = machines
        self._values = values

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics/fleet", self._metrics)]

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        """Written a piece at a time, so that a large fleet does not halt the hub."""
        self._door.admit(request)
        families: dict[str, list[str]] = {}
        for machine in list(self._machines.everywhere()):
            for line in self._lines(machine):
                families.setdefault(line.family, []).append(f"{line.family}{{{line.labels}}} {line.value!r}\n")
            await asyncio.sleep(0)
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})
        await response.prepare(request)
        for family, lines in families.items():
            await response.write(f"# TYPE {family} gauge\n".encode())
            remaining = iter(lines)
            while piece := "".join(islice(remaining, LINES_AT_ONCE)):
                await response.write(piece.encode())
        await response.write_eof()
        return response

    def _lines(self, machine: Machine) -> Iterator[Line]:
        """Yield no name and labels twice, whatever a machine calls its values: some readers refuse all for that."""
        seen = set()
        oldest_ms = milliseconds(self._clock.now()) - FRESH_MS
        for metric_type, sample in self._values.newest(machine.id).items():
            if sample.ts_ms < oldest_ms:
                continue
            kind, _, part = metric_type.partition(".")
            labels = labels_of(machine, part if kind in PARTED else "")
            prefix = PREFIX if metric_type == SYSTEM else f"{PREFIX}{_NO_NAME.sub('_', kind)}_"
            for name, value in sample.data.items():
                family = prefix + _NO_NAME.sub("_", name)
                if isinstance(value, int | float) and (family, labels) not in seen:
                    seen.add((family, labels))
                    yield Line(family, labels, float(value))


def labels_of(machine: Machine, part: str) -> str:
    """Return the labels of one line, escaped."""
    named = {
        "organisation": machine.organisation_id,
        "agent": machine.id,
        "name": machine.name,
        "site": machine.site,
        "part": part,
    }
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in named.items() if value)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
