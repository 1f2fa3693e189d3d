"""The bench's side of worker processes."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

import msgspec

from hub_server.bench.figures import quantile
from hub_server.bench.orders import Begin, Begun, Counted, Failed, Finish, Ready, Report, Rest, Rested, Return
from hub_server.bench.processes import BenchFailed, end_with_parent, keep_on, own_module

AGENTS: Final = "hub_server.bench"
PLAN_DEADLINE_SECONDS: Final = 900.0
ANSWER_DEADLINE_SECONDS: Final = 30.0
END_DEADLINE_SECONDS: Final = 20.0
REPORT_MAX_BYTES: Final = 1 << 28
BUSY_CPU_SHARE: Final = 0.85
LATE_MS: Final = 100.0

R = TypeVar("R", bound=Report)


class Worker:
    """A process that carries out one plan."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def asked(self, order: Any, kind: type[R], deadline_seconds: float = ANSWER_DEADLINE_SECONDS) -> R:
        """Return the worker's answer to a plan or an order. Raises BenchFailed when it fails, or gives none in time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        try:
            async with asyncio.timeout(deadline_seconds):
                line = await self._process.stdout.readline()
        except TimeoutError as late:
            raise BenchFailed(f"a load process gave no answer to {type(order).__name__} in time") from late
        if not line:
            raise BenchFailed("a load process ended before its time; it says why above")
        answer = msgspec.json.decode(line, type=Report)
        if isinstance(answer, Failed):
            raise BenchFailed(f"a load process failed: {answer.message}")
        assert isinstance(answer, kind), answer
        return answer


class Workers:
    """Several workers of one kind, asked as one."""

    def __init__(self, workers: Sequence[Worker], ready: Sequence[Ready]) -> None:
        self._workers = workers
        self.done = sum(report.done for report in ready)
        self.took_seconds = max(report.took_seconds for report in ready)
        self.problems = sum((Counter(report.problems) for report in ready), Counter[str]())

    async def begin(self) -> None:
        await asyncio.gather(*(worker.asked(Begin(), Begun) for worker in self._workers))

    async def finish(self) -> Sequence[Counted]:
        return await asyncio.gather(*(worker.asked(Finish(), Counted) for worker in self._workers))

    async def back(self, order: Return) -> Sequence[Ready]:
        """Have every worker connect what it lost; `order` is for each of them."""
        return await asyncio.gather(*(worker.asked(order, Ready, PLAN_DEADLINE_SECONDS) for worker in self._workers))

    async def rest(self) -> Sequence[Rested]:
        """Have every agent stop sampling, and wait for the acknowledgements it still lacks."""
        return await asyncio.gather(*(worker.asked(Rest(), Rested) for worker in self._workers))


@asynccontextmanager
async def working(plans: Sequence[Any], module: str = AGENTS, cores: set[int] | None = None) -> AsyncIterator[Workers]:
    """Run a worker a plan for the block, which begins once all are ready. Raises BenchFailed.

    `module` is the program that knows the plans. The workers run on `cores`, if given.
    """
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(_worker(module, cores)) for _ in plans]
        ready = await asyncio.gather(
            *(worker.asked(plan, Ready, PLAN_DEADLINE_SECONDS) for worker, plan in zip(workers, plans, strict=True))
        )
        yield Workers(workers, ready)


@asynccontextmanager
async def _worker(module: str, cores: set[int] | None) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *own_module(module), stdin=PIPE, stdout=PIPE, limit=REPORT_MAX_BYTES, preexec_fn=end_with_parent
    )
    if cores:
        keep_on(process.pid, cores)
    try:
        yield Worker(process)
    finally:
        await _ended(process)


async def _ended(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_DEADLINE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def bottleneck_of(reports: Sequence[Counted]) -> str:
    """Return why the load was not what it claims to be, empty when it was."""
    busiest = max(report.cpu_share for report in reports)
    late_ms = max((quantile(sorted(report.slips_ms), 0.99) for report in reports if report.slips_ms), default=0.0)
    if busiest > BUSY_CPU_SHARE:
        return f"the load generator was the bottleneck: {busiest:.0%} of a core"
    if late_ms > LATE_MS:
        return f"the load generator fell behind its schedule: p99 {late_ms:.0f} ms"
    return ""
