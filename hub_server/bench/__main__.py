"""A worker process of simulated agents: `python -m hub_server.bench`, given its plan on standard input."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

from hub_server.bench.fleet import Fleet, connected_fleet, knocked
from hub_server.bench.identities import enroll_all
from hub_server.bench.orders import Connect, Enroll, Knock, Plan, Ready
from hub_server.bench.tally import Tally
from hub_server.bench.worker import Nobody, Work, run


def work_of(plan: Plan, tally: Tally) -> Work:
    match plan:
        case Enroll():
            return Work(_enrolled(plan), Nobody())
        case Connect():
            fleet = Fleet(plan, tally)
            return Work(connected_fleet(fleet, plan, tally), fleet)
        case Knock():
            return Work(knocked(plan, tally), Nobody())
        case _:
            assert_never(plan)


@asynccontextmanager
async def _enrolled(plan: Enroll) -> AsyncIterator[Ready]:
    started_at = time.perf_counter()
    problems = await enroll_all(plan)
    took_seconds = time.perf_counter() - started_at
    yield Ready(done=plan.count - problems.total(), took_seconds=took_seconds, problems=dict(problems))


if __name__ == "__main__":
    run(Plan, work_of)
