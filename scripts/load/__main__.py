"""A worker process of dashboards: `python -m scripts.load`, given its plan on standard input."""

from __future__ import annotations

from typing import assert_never

from hub_server.bench.tally import Tally
from hub_server.bench.worker import Nobody, Work, run
from scripts.load.crowd import crowd
from scripts.load.person import Refused
from scripts.load.plans import Crowd, Plan, Watch
from scripts.load.watchers import watching_dashboards


def work_of(plan: Plan, tally: Tally) -> Work:
    match plan:
        case Watch():
            return Work(watching_dashboards(plan, tally), Nobody())
        case Crowd():
            return Work(crowd(plan, tally), Nobody())
        case _:
            assert_never(plan)


if __name__ == "__main__":
    run(Plan, work_of, failures=(Refused,))
