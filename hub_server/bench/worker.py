"""A worker process: reads its plan and its orders from standard input, and ends with it."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, Protocol, assert_never

import aiohttp
import msgspec
import uvloop

from hub_server.bench.identities import NoIdentity
from hub_server.bench.orders import Begin, Begun, Failed, Finish, Order, Ready, Report, Rest, Rested, Return
from hub_server.bench.tally import Tally

LIFETIME_SECONDS: Final = 3600.0
LINE_MAX_BYTES: Final = 1 << 20
GC_THRESHOLDS: Final = (50_000, 50, 1000)
"""A load generator that halts for its own garbage would pass that for the hub's lateness."""


class Crew(Protocol):
    """Whoever speaks for a plan and can be told to stop or to come back."""

    async def back(self, order: Return) -> Ready: ...

    async def rest(self) -> Rested: ...


class Nobody:
    """The crew of a plan that needs none."""

    async def back(self, _order: Return) -> Ready:
        return Ready(done=0, took_seconds=0.0)

    async def rest(self) -> Rested:
        return Rested(sent_samples=0, acknowledged_samples=0)


class Work(NamedTuple):
    """What a plan leads to; `doing` is entered once and left at the end."""

    doing: AbstractAsyncContextManager[Ready]
    crew: Crew


def run(plans: Any, work_of: Callable[[Any, Tally], Work], failures: tuple[type[Exception], ...] = ()) -> None:
    """Carry out one plan of the types in `plans`; ends when standard input closes, at the latest after an hour.

    `failures` of the plan are told to whoever started this, beside those of every plan.
    """
    uvloop.run(_carry_out(msgspec.json.Decoder(plans), work_of, (*failures, NoIdentity, aiohttp.ClientError, OSError)))


async def _carry_out(
    plans: msgspec.json.Decoder[Any], work_of: Callable[[Any, Tally], Work], failures: tuple[type[Exception], ...]
) -> None:
    orders = asyncio.StreamReader(limit=LINE_MAX_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    gc.set_threshold(*GC_THRESHOLDS)
    plan = plans.decode(await orders.readline())
    tally = Tally()
    try:
        work = work_of(plan, tally)
        async with asyncio.timeout(LIFETIME_SECONDS), work.doing as ready:
            gc.collect()
            gc.freeze()
            _report(ready)
            while line := await orders.readline():
                _report(await _obey(msgspec.json.decode(line, type=Order), tally, work))
    except failures as error:
        _report(Failed(message=f"{type(error).__name__}: {error}"))


async def _obey(order: Order, tally: Tally, work: Work) -> Report:
    match order:
        case Begin():
            tally.begin()
            return Begun()
        case Finish():
            return tally.counted()
        case Return():
            return await work.crew.back(order)
        case Rest():
            return await work.crew.rest()
        case _:
            assert_never(order)


def _report(said: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()
