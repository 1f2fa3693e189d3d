"""A fleet from the bench's side: enrolled, connected and counted through worker processes."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hub_server.bench.hub import Hub
from hub_server.bench.orders import Connect, Enroll, Knock
from hub_server.bench.processes import BenchFailed, cpu_seconds_of
from hub_server.bench.workers import Workers, working

AGENTS_PER_PROCESS: Final = 2500
CONNECTS_PER_SECOND: Final = 100.0
TOKEN_USES_MAX: Final = 10_000
FILES_BESIDE_AGENTS: Final = 1500
AFTER_LAST_KNOCK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Enrolled:
    """How a fleet came in. `cpu_seconds`: the hub's."""

    identities: Path
    count: int
    took_seconds: float
    cpu_seconds: float


def shares_of(count: int) -> list[tuple[int, int]]:
    """Return the first agent and the number of agents of each load process."""
    cores = len(os.sched_getaffinity(0))
    processes = max(min(cores, 1 + (count - 1) // AGENTS_PER_PROCESS), 1 + (count - 1) // TOKEN_USES_MAX)
    bounds = [count * index // processes for index in range(processes + 1)]
    return [(low, high - low) for low, high in itertools.pairwise(bounds)]


def files_needed(count: int) -> int:
    """Return how many files the hub must open for `count` agents, dashboards and databases aside."""
    return count + FILES_BESIDE_AGENTS


async def enroll(hub: Hub, identities: Path, count: int) -> Enrolled:
    """Enroll agents 0 to `count - 1` as every machine does, their keys and certificates into `identities`.

    Raises BenchFailed.
    """
    shares = shares_of(count)
    tokens = await asyncio.gather(*(hub.join_string(uses=size) for _, size in shares))
    plans = [
        Enroll(join_string=token, folder=str(identities), first=first, count=size)
        for token, (first, size) in zip(tokens, shares, strict=True)
    ]
    cpu_began = cpu_seconds_of(hub.pid)
    async with working(plans) as enrolled:
        require(enrolled.done, count, "enrolled", enrolled.problems)
        return Enrolled(identities, count, enrolled.took_seconds, cpu_seconds_of(hub.pid) - cpu_began)


@asynccontextmanager
async def connected(plan: Connect, cores: set[int] | None = None) -> AsyncIterator[Workers]:
    """Carry out `plan` for the block, shared among processes, on `cores` if given. Raises BenchFailed."""
    shares = shares_of(plan.count)
    plans = [
        msgspec.structs.replace(
            plan, first=plan.first + first, count=size, per_second=plan.per_second * size / plan.count
        )
        for first, size in shares
    ]
    async with working(plans, cores=cores) as fleet:
        require(fleet.done, plan.count, "connected", fleet.problems)
        yield fleet


async def knock_seconds(pid: int, port: int, identities: Path, count: int) -> float:
    """Return the CPU seconds that process `pid` takes for one handshake and upgrade, by `count` of them.

    Raises BenchFailed.
    """
    plans = [Knock(port=port, folder=str(identities), first=first, count=size) for first, size in shares_of(count)]
    cpu_began = cpu_seconds_of(pid)
    async with working(plans) as knocked:
        require(knocked.done, count, "let in", knocked.problems)
        await asyncio.sleep(AFTER_LAST_KNOCK_SECONDS)
        return (cpu_seconds_of(pid) - cpu_began) / count


def require(done: int, wanted: int, what: str, problems: Mapping[str, int]) -> None:
    """Raise BenchFailed unless all agents got there."""
    if done != wanted:
        worst = ", ".join(f"{count} times {problem}" for problem, count in Counter(problems).most_common(3))
        raise BenchFailed(f"only {done} of {wanted} simulated agents were {what}: {worst or 'no reason seen'}")
