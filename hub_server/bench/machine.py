"""What was measured on."""

from __future__ import annotations

import os
import platform
import ssl
import time
from importlib import metadata
from pathlib import Path
from typing import Final

from msgspec import Struct

from hub_server.bench.processes import machine_cpu_seconds, own_cpu_seconds

PACKAGES: Final = ("jtnt", "aiohttp", "uvloop", "websockets", "python-socketio", "msgspec", "SQLAlchemy")
QUIET_SHARE: Final = 0.05
PACE_TURNS: Final = 3_000_000


class Machine(Struct, frozen=True):
    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    openssl: str
    versions: dict[str, str]


def this_machine() -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        openssl=ssl.OPENSSL_VERSION,
        versions={name: metadata.version(name) for name in PACKAGES},
    )


def pace_ms() -> float:
    """Return the CPU time of a fixed piece of Python: how fast the machine is just now, for the comparison of runs."""
    began_at = time.process_time()
    total = 0
    for number in range(PACE_TURNS):
        total += number
    return (time.process_time() - began_at) * 1000


class Quiet:
    """Watches how fast the machine is and how much of it other programs use meanwhile."""

    def __init__(self) -> None:
        self.pace_before_ms = pace_ms()
        self._began_at = time.monotonic()
        self._machine_began = machine_cpu_seconds()
        self._own_began = own_cpu_seconds()

    def others_share(self) -> float:
        """Return the others' part of all cores since the start. Right once every program of the bench has ended."""
        machine = machine_cpu_seconds() - self._machine_began
        own = own_cpu_seconds() - self._own_began
        elapsed = (time.monotonic() - self._began_at) * len(os.sched_getaffinity(0))
        return max(0.0, machine - own) / max(elapsed, 1e-9)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
