"""Days of a fleet's samples, written straight into the hub's store, and what the store takes for one of them.

A program of its own, so that its CPU time is the store's and the hub's memory holds nothing of it:
`python -m scripts.measures.history`, with its order as JSON on standard input; it prints its answer as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from msgspec import Struct

from hub_server.bench.agent import now_ms
from hub_server.bench.identities import identity_file
from hub_server.lifecycle import GC_THRESHOLDS
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.day_files.packer import ROUND_MS
from hub_server.telemetry.model import StoredRanges, StreamKey
from hub_server.telemetry.port import MetricStore, NewSample
from protocol.frames import MetricValue
from protocol.identity import AgentIdentity
from protocol.ranges import SequenceRanges

GIBIBYTE: Final = 1 << 30
HOUR_MS: Final = 3_600_000
SAMPLE_MS: Final = 10_000
OLD_SAMPLE_MS: Final = 60_000
OLD_DAYS: Final = 30
DAY_HOURS: Final = 24
BATCH: Final = 5000
PACK_EVERY: Final = 100_000
STREAM: Final = "backfill"
EPOCH: Final = 1
SYSTEM: Final = "system"


class Fill(Struct, frozen=True, tag=True):
    """Give agents 0 to `agents - 1` a sample each 10 s of the last `recent_hours`; the first `history_agents` too of
    the last `history_days`, and one a minute of the 30 days before that."""

    store: str
    identities: str
    agents: int
    recent_hours: float
    history_agents: int
    history_days: float


class Cost(Struct, frozen=True, tag=True):
    """Store `samples` of eight values, of `agents` in turn, 10 s between two of one, and pack all of them."""

    store: str
    samples: int
    agents: int = 1000


class Filled(Struct, frozen=True, tag=True):
    samples: int
    seconds: float


class Costs(Struct, frozen=True, tag=True):
    """CPU is that of all threads of the process, without the making of the samples."""

    samples: int
    add_cpu_us: float
    pack_cpu_us: float
    packed_bytes: float


Order = Fill | Cost
Answer = Filled | Costs


class Machine:
    """One simulated machine whose values move as real ones do: gauges wander, counters rise by uneven steps."""

    def __init__(self, organisation_id: str, agent_id: str, number: int) -> None:
        self.organisation_id = organisation_id
        self.key = StreamKey(agent_id, STREAM, EPOCH)
        self.seq = 0
        self._random = random.Random(number)  # noqa: S311  the same figures in each run
        self._cpu, self._memory, self._disk = 10.0 + number % 30, 40.0, 50.0
        self._sent, self._received = 10**9, 10**10

    def sample(self, ts_ms: int) -> NewSample:
        self.seq += 1
        draw = self._random.random
        self._cpu = min(100.0, max(0.0, self._cpu + 8 * (draw() - 0.5)))
        self._memory = min(95.0, max(5.0, self._memory + draw() - 0.5))
        self._disk = min(90.0, max(10.0, self._disk + 0.02 * (draw() - 0.5)))
        self._sent += int(50_000 * draw())
        self._received += int(90_000 * draw())
        data: dict[str, MetricValue] = {
            "cpu_percent": round(self._cpu, 1),
            "memory_percent": round(self._memory, 1),
            "memory_used_bytes": int(self._memory * 8 * GIBIBYTE / 100) & ~4095,
            "disk_percent": round(self._disk, 1),
            "disk_used_bytes": int(self._disk * 200 * GIBIBYTE / 100) & ~4095,
            "network_bytes_sent": self._sent,
            "network_bytes_recv": self._received,
            "uptime_seconds": 1_000_000 + ts_ms // 1000 % 1_000_000,
        }
        return NewSample(self.organisation_id, self.key, self.seq, SYSTEM, ts_ms, data)

    @property
    def ranges(self) -> StoredRanges:
        return StoredRanges(self.organisation_id, self.key, SequenceRanges([(1, self.seq)]))


class Period(NamedTuple):
    """Samples of some machines, `from_ms` included, `to_ms` excluded."""

    machines: Sequence[Machine]
    from_ms: int
    to_ms: int
    step_ms: int


async def main() -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    store = DayFiles(folder=Path(order.store))
    await store.open()
    try:
        answer = await fill(store, order) if isinstance(order, Fill) else await cost(store, order)
    finally:
        await store.close()
    sys.stdout.buffer.write(msgspec.json.encode(answer))


async def fill(store: MetricStore, order: Fill) -> Filled:
    began_at = time.perf_counter()
    written = since_packed = 0
    for period in periods_of(order):
        for from_ms in range(period.from_ms, period.to_ms, HOUR_MS):
            for samples, machines in batches(period, from_ms, min(from_ms + HOUR_MS, period.to_ms)):
                await store.add(samples, [machine.ranges for machine in machines])
                written += len(samples)
                since_packed += len(samples)
                if since_packed >= PACK_EVERY:
                    since_packed = 0
                    await pack_all(store, now_ms())
    await pack_all(store, now_ms() + ROUND_MS)  # as a hub leaves it that has run for days
    return Filled(written, time.perf_counter() - began_at)


def periods_of(order: Fill) -> Sequence[Period]:
    """Return what is to be written, the oldest first."""
    machines = [Machine(*identity_in(identity_file(Path(order.identities), n)), n) for n in range(order.agents)]
    to_ms = now_ms() // SAMPLE_MS * SAMPLE_MS
    recent_ms = to_ms - int(order.recent_hours * HOUR_MS)
    history_ms = min(recent_ms, to_ms - int(order.history_days * DAY_HOURS * HOUR_MS))
    old_ms = history_ms - (OLD_DAYS * DAY_HOURS * HOUR_MS if order.history_days >= 1 else 0)
    some = machines[: order.history_agents]
    return (
        Period(some, old_ms, history_ms, OLD_SAMPLE_MS),
        Period(some, history_ms, recent_ms, SAMPLE_MS),
        Period(machines, recent_ms, to_ms, SAMPLE_MS),
    )


def batches(period: Period, from_ms: int, to_ms: int) -> Iterator[tuple[list[NewSample], list[Machine]]]:
    """Yield the samples of an hour in batches, with the machines that they are of."""
    samples: list[NewSample] = []
    machines: list[Machine] = []
    for machine in period.machines:
        samples += [machine.sample(ts_ms) for ts_ms in range(from_ms, to_ms, period.step_ms)]
        machines.append(machine)
        if len(samples) >= BATCH:
            yield samples, machines
            samples, machines = [], []
    if samples:
        yield samples, machines


async def cost(store: MetricStore, order: Cost) -> Costs:
    """Store rounds of one sample a machine, so that each commit is of many machines, as in a hub."""
    machines = [Machine("bench", f"agent-{number:05}", number) for number in range(order.agents)]
    rounds = max(1, order.samples // order.agents)
    to_ms = now_ms() // HOUR_MS * HOUR_MS
    add_seconds = pack_seconds = 0.0
    for turn in range(rounds):
        ts_ms = to_ms - (rounds - turn) * SAMPLE_MS
        samples = [machine.sample(ts_ms) for machine in machines]
        changed = [machine.ranges for machine in machines]
        began = time.process_time()
        await store.add(samples, changed)
        add_seconds += time.process_time() - began
        if (turn + 1) * order.agents % PACK_EVERY < order.agents:
            pack_seconds += await pack_all(store, ts_ms)
    pack_seconds += await pack_all(store, to_ms + HOUR_MS)
    written = rounds * order.agents
    figures = store.figures()
    return Costs(
        samples=written,
        add_cpu_us=1e6 * add_seconds / written,
        pack_cpu_us=1e6 * pack_seconds / written,
        packed_bytes=figures.packed_bytes / max(1, written - figures.hot_samples),
    )


async def pack_all(store: MetricStore, at_ms: int) -> float:
    """Pack what is due at `at_ms`; returns the CPU seconds it took."""
    began = time.process_time()
    while await store.pack(at_ms):
        pass
    return time.process_time() - began


def identity_in(file: Path) -> tuple[str, str]:
    """Return organisation and agent of the certificate that a file of an identity holds."""
    leaf = x509.load_pem_x509_certificates(file.read_bytes())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    identity = AgentIdentity.parse(uri)
    return identity.organisation_id, identity.agent_id


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(main())
