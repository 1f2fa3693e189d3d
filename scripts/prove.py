"""`python3 scripts/dev.py prove NAME`: run a promise in full length against real processes, a line a step."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Final

from scripts.proofs import main_job
from scripts.proofs.jobs import lines as jobs
from scripts.proofs.report import Report
from scripts.proofs.telemetry import lines as telemetry
from scripts.proofs.trust import lines as trust

PROOFS: Final[Mapping[str, Callable[[Report], Coroutine[None, None, None]]]] = {
    "main-job": main_job.prove,
    "trust": trust.prove,
    "telemetry": telemetry.prove,
    "jobs": jobs.prove,
}


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every step holds, else 1."""
    parser = argparse.ArgumentParser(
        prog="dev.py prove",
        description="Show with figures that a promise holds: one line a step, exit code 1 when any does not.",
        epilog="Examples:\n  dev.py prove main-job\n  dev.py prove main-job --only kill\n  dev.py prove telemetry",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=PROOFS, metavar="NAME", help=f"one of: {', '.join(PROOFS)}")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the steps whose line holds these words")
    given = parser.parse_args(arguments)
    report = Report(given.only)
    asyncio.run(PROOFS[given.name](report))
    return report.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
