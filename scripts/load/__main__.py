"""A worker process: reads its plan and its orders from standard input, and ends with it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, assert_never

import aiohttp
import msgspec
import uvloop

from scripts.load.fleet import connected_fleet
from scripts.load.identities import NoIdentity, enroll_all
from scripts.load.orders import Begin, Begun, Connect, Enroll, Failed, Finish, Order, Plan, Ready, Report, Watch
from scripts.load.person import Refused
from scripts.load.tally import Tally
from scripts.load.watchers import watching_dashboards

LIFETIME_SECONDS: Final = 3600.0
LINE_MAX_BYTES: Final = 1 << 20


async def work() -> None:
    """Carry out one plan; ends when the bench closes standard input, at the latest after an hour."""
    orders = asyncio.StreamReader(limit=LINE_MAX_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    plan = msgspec.json.decode(await orders.readline(), type=Plan)
    tally = Tally()
    try:
        async with asyncio.timeout(LIFETIME_SECONDS), _carried_out(plan, tally) as ready:
            report(ready)
            while line := await orders.readline():
                obey(msgspec.json.decode(line, type=Order), tally)
    except (NoIdentity, Refused, aiohttp.ClientError, OSError) as error:
        report(Failed(message=f"{type(error).__name__}: {error}"))


def obey(order: Order, tally: Tally) -> None:
    match order:
        case Begin():
            tally.begin()
            report(Begun())
        case Finish():
            report(tally.counted())
        case _:
            assert_never(order)


def report(said: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def _carried_out(plan: Plan, tally: Tally) -> AbstractAsyncContextManager[Ready]:
    match plan:
        case Enroll():
            return _enrolled(plan)
        case Connect():
            return connected_fleet(plan, tally)
        case Watch():
            return watching_dashboards(plan, tally)
        case _:
            assert_never(plan)


@asynccontextmanager
async def _enrolled(plan: Enroll) -> AsyncIterator[Ready]:
    started_at = time.perf_counter()
    problems = await enroll_all(plan)
    yield Ready(
        done=plan.count - problems.total(), took_seconds=time.perf_counter() - started_at, problems=dict(problems)
    )


if __name__ == "__main__":
    uvloop.run(work())
