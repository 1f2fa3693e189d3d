"""`jtnt-hub bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from hub_server.cli.local_hub import AsJson
from hub_server.cli.outcome import CommandFailed, Exit

if sys.platform == "linux":
    from hub_server.bench.processes import BenchFailed
    from hub_server.bench.report import text_of
    from hub_server.bench.run import Size, measured

AGENTS_MAX = 10_000
SECONDS_MAX = 600.0


def bench(
    *,
    agents: Annotated[int, Parameter(help="Simulated agents, 1 to 10000.")] = 200,
    seconds: Annotated[float, Parameter(help="Of each of three windows, 1 to 600; under pressure 60 at most.")] = 10.0,
    folder: Annotated[Path | None, Parameter(help="Where its data go; the disk counts (default: the system's)")] = None,
    json: AsJson = False,
) -> None:
    """Measure what a hub on this machine can do."""
    if sys.platform != "linux":
        raise CommandFailed("the bench reads what Linux says of programs: run it on a Linux machine", Exit.USAGE)
    if not 1 <= agents <= AGENTS_MAX:
        raise CommandFailed(f"--agents: give a number from 1 to {AGENTS_MAX}", Exit.USAGE)
    if not 1 <= seconds <= SECONDS_MAX:
        raise CommandFailed(f"--seconds: give a number from 1 to {SECONDS_MAX:g}", Exit.USAGE)
    if folder is not None and not folder.is_dir():
        raise CommandFailed(f"there is no folder {folder}", Exit.NOT_WRITABLE)
    try:
        run = measured(
            Size(agents=agents, seconds=seconds), [f"--agents {agents}", f"--seconds {seconds:g}"], _say, folder
        )
    except BenchFailed as failed:
        raise CommandFailed(f"bench: {failed}", Exit.REFUSED) from failed
    except KeyboardInterrupt as stopped:
        raise CommandFailed("bench: stopped; nothing is left of it", Exit.REFUSED) from stopped
    print(msgspec.json.encode(run).decode() if json else text_of(run))


def _say(line: str) -> None:
    print(f"bench: {line} …", file=sys.stderr, flush=True)
