"""Network interfaces, each on its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import psutil

from agent_client.collectors.readings import Figures, Readings, type_of

INTERFACES_MAX: Final = 8
# Loopback, and the host's ends of containers' and guests' cables.
_INNER: Final = re.compile(r"(?i)lo\d*$|loopback|veth|vnet|tap|cali|cilium|lxc|ifb\d|dummy\d|utun|awdl|llw|anpi")


class _Traffic(NamedTuple):
    counters: Any  # psutil's snetio; its name differs between versions of the types
    at_monotonic: float


class InterfaceCollector:
    """`interface.<name>` of those that are up, at most INTERFACES_MAX: those shown before, then the busiest.

    One that goes down is shown once more, as down. Rates are over the time since the call before.
    """

    name: Final = "interface"

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._shown: dict[str, _Traffic] = {}

    def collect(self) -> Readings:
        """Raises OSError or psutil.Error when the machine does not tell."""
        counters, states = psutil.net_io_counters(pernic=True, nowrap=False), psutil.net_if_stats()
        now = self._monotonic()
        up = [name for name in counters if name in states and states[name].isup and not _INNER.match(name)]
        chosen = self._chosen(up, lambda name: int(counters[name].bytes_recv + counters[name].bytes_sent))
        before, self._shown = self._shown, {name: _Traffic(counters[name], now) for name in chosen}
        readings = {name: _figures(states[name].speed, self._shown[name], before.get(name)) for name in chosen}
        readings |= {name: {"up": False} for name in before if name not in up}
        return {type_of(self.name, name): figures for name, figures in readings.items()}

    def _chosen(self, up: Iterable[str], traffic: Callable[[str], int]) -> list[str]:
        ranked = sorted(up, key=lambda name: (name not in self._shown, -traffic(name), name))
        return sorted(ranked[:INTERFACES_MAX])


def _figures(speed_mbps: int, now: _Traffic, before: _Traffic | None) -> Figures:
    counters = now.counters
    figures: Figures = {"up": True, "speed_mbps": speed_mbps} if speed_mbps > 0 else {"up": True}
    figures |= {
        "bytes_sent": counters.bytes_sent,
        "bytes_recv": counters.bytes_recv,
        "errors_in": counters.errin,
        "errors_out": counters.errout,
        "drops_in": counters.dropin,
        "drops_out": counters.dropout,
    }
    if before is not None:
        seconds = max(now.at_monotonic - before.at_monotonic, 0.001)
        earlier = before.counters
        figures["sent_bytes_per_sec"] = round(max(counters.bytes_sent - earlier.bytes_sent, 0) / seconds, 1)
        figures["recv_bytes_per_sec"] = round(max(counters.bytes_recv - earlier.bytes_recv, 0) / seconds, 1)
    return figures
