"""The bench: real programs on this machine, a load from processes of its own, and a table of what was measured."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import uvloop
from socketio.exceptions import SocketIOError

from hub_server.bench.figures import NO_TARGET, Figure, void
from hub_server.bench.machine import Quiet, pace_ms, this_machine
from hub_server.bench.muster import Enrolled, enroll, files_needed
from hub_server.bench.processes import BenchFailed, raise_file_limit
from hub_server.bench.report import Row, Run, text_of
from scripts.load.person import Refused
from scripts.measures import fanout, fleet_load, footprint, ingest, peers, query, round_trip, starts, storm
from scripts.measures.disk import DiskProbe
from scripts.measures.options import Options, quick
from scripts.measures.site import Site, site
from scripts.measures.stage import loaded

CACHE: Final = Path(__file__).resolve().parent.parent / ".cache/bench"
NAMES: Final = {
    "start": "hub start, agent start",
    "agent": "memory and CPU of a real agent",
    "hub": "memory, CPU, pauses and answers of a hub with a fleet connected and dashboards watching",
    "command": "round trip of commands, with that fleet connected",
    "ingest": "samples a second that the hub takes, commits and acknowledges; nothing lost, nothing twice",
    "storm": "the fleet comes back at once after kill -9 of the hub; the cost of a handshake",
    "fanout": "the cost of a sample that is shown to many dashboards",
    "query": "what pages ask, of a store that holds days of the fleet; the store's own cost of a sample",
}
FLEET_NAMES: Final = frozenset({"hub", "command", "ingest", "storm", "fanout", "query"})
ALL: Final = "all"
FAILED: Final = "failed: "
FAILURES: Final = (BenchFailed, Refused, SocketIOError, aiohttp.ClientError, OSError)
COUNT_MAX: Final = 20_000


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for and print it; the exit code is 0 when everything could be measured.

    Ctrl-C ends it early; what was measured until then is printed.
    """
    given = parsed(arguments)
    names = list(NAMES) if ALL in given.names else given.names
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    try:
        run = measured(names, options_of(given, folder), arguments)
    except BenchFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(text_of(run))
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    return 1 if any(row.figure.name.startswith(FAILED) for row in run.rows) else 0


def measured(names: Sequence[str], options: Options, arguments: Sequence[str]) -> Run:
    """Take all measurements, or those until an interruption; whatever began has ended then. Raises BenchFailed."""
    raise_file_limit(files_needed(options.agents))
    quiet, began_at, at = Quiet(), time.monotonic(), datetime.now(UTC)
    figures: list[Figure] = []
    try:
        uvloop.run(take(names, options, figures))
    except KeyboardInterrupt:
        figures.append(void(f"{FAILED}the rest", "", NO_TARGET, "interrupted"))
    return Run(
        at=at,
        command=list(arguments),
        machine=this_machine(),
        others_share=quiet.others_share(),
        pace_ms=(quiet.pace_before_ms, pace_ms()),
        seconds=time.monotonic() - began_at,
        rows=[Row(figure, figure.verdict) for figure in figures],
    )


async def take(names: Sequence[str], options: Options, figures: list[Figure]) -> None:
    """Add the figures of `names`, each when it is there; those that need a fleet share one."""
    async with site(options) as here:
        if "start" in names:
            say("starting hub and agent")
            figures += await starts.measure(options, here)
        if "agent" in names:
            say(f"watching an agent for {options.window_seconds:g} s")
            figures += await footprint.measure(options, here)
        if FLEET_NAMES & {*names}:
            await take_with_fleet(names, options, here, figures)


async def take_with_fleet(names: Sequence[str], options: Options, here: Site, figures: list[Figure]) -> None:
    """Add the figures of `names` that need a fleet."""
    say(f"enrolling {options.agents} agents")
    fleet = await enroll(here.hub, options.folder / "identities", options.agents)
    figures += fleet_load.enrollment_figures(fleet)
    if {"hub", "command"} & {*names}:
        figures += await or_failed("hub and command", take_loaded(names, options, here, fleet))
        await here.hub.start_if_down()
    for name, what, measure in (
        ("query", "filling the store and asking it", query.measure),  # before some agents have far more than others
        ("ingest", "pressing the hub with samples", ingest.measure),
        ("storm", "killing the hub under its fleet", storm.measure),
        ("fanout", "showing samples to a crowd", fanout.measure),
    ):
        if name in names:
            say(what)
            figures += await or_failed(name, measure(options, here, fleet))
            await here.hub.start_if_down()


async def or_failed(name: str, measuring: Awaitable[Sequence[Figure]]) -> Sequence[Figure]:
    """Return what a measure found, or a row that says why it found nothing: the others go on."""
    try:
        return await measuring
    except FAILURES as failure:
        why = str(failure) or type(failure).__name__
        say(f"{name} failed: {why}")
        return [void(f"{FAILED}{name}", "", NO_TARGET, why.splitlines()[0])]


async def take_loaded(names: Sequence[str], options: Options, here: Site, fleet: Enrolled) -> list[Figure]:
    """Return the figures of `names` that need the fleet connected."""
    figures: list[Figure] = []
    say(f"connecting {options.agents} agents")
    disk = DiskProbe(options.folder / "disk-probe")
    async with loaded(here, fleet, options) as stage, disk.running():
        if "hub" in names:
            say(f"watching the hub for {options.window_seconds:g} s")
            figures += await or_failed("hub", fleet_load.measure(options, stage))
        if "command" in names:
            say(f"running {3 * options.commands} commands")
            figures += await or_failed("command", round_trip.measure(options, stage))
    figures.append(disk.figure)
    if "hub" in names and options.with_peers:
        say("connecting as many with a bare aiohttp server and with Node ws")
        figures += await or_failed("peers of the hub", peers.measure(options, stage))
    return figures


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py bench",
        description="Measure the product on this machine (Linux): a real hub, a real agent, a simulated fleet.",
        epilog="measures:\n" + "\n".join(f"  {name:<9}{what}" for name, what in NAMES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", type=_name, default=[ALL], help="what to measure (all)")
    parser.add_argument("--agents", type=_count, metavar="N", help="simulated agents (1000)")
    parser.add_argument("--dashboards", type=_count, metavar="N", help="dashboards that watch (20)")
    parser.add_argument("--window", type=float, metavar="SECONDS", help="how long hub and agent are watched (120)")
    parser.add_argument("--commands", type=_count, metavar="N", help="commands of each kind (200)")
    parser.add_argument("--runs", type=_count, metavar="N", help="runs of what varies (3)")
    parser.add_argument("--no-peers", action="store_true", help="leave out comparisons; npm fetches them")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that everything works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args(arguments)


def options_of(given: argparse.Namespace, folder: Path) -> Options:
    options = quick(folder, CACHE) if given.quick else Options(folder=folder, cache=CACHE)
    chosen = {
        "agents": given.agents,
        "dashboards": given.dashboards,
        "window_seconds": given.window,
        "commands": given.commands,
        "runs": given.runs,
    }
    options = dataclasses.replace(options, **{name: value for name, value in chosen.items() if value is not None})
    return dataclasses.replace(options, with_peers=options.with_peers and not given.no_peers)


def say(line: str) -> None:
    print(f"bench: {line} …", file=sys.stderr, flush=True)


def _name(text: str) -> str:
    if text not in NAMES and text != ALL:
        raise argparse.ArgumentTypeError(f"{text!r}: give some of {', '.join(NAMES)}, or {ALL}")
    return text


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= COUNT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 1 to {COUNT_MAX}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
