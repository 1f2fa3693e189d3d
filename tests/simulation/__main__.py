"""`python -m tests.simulation SEED`: replay one seed and tell what happens. See --help for many seeds and bugs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from tests.simulation.bugs import PLANTED
from tests.simulation.seeds import Worlds, worlds

BUG_SEEDS: Final = 200
BREACHES_TOLD: Final = 3


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every promise held, and every planted bug was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the seed to replay, or the first of several")
    parser.add_argument("--count", type=int, default=0, help="run this many seeds, without telling what happens")
    parser.add_argument("--bug", choices=PLANTED, metavar="NAME", help="plant this bug")
    parser.add_argument("--bugs", action="store_true", help="plant every bug, one after the other, until it is found")
    given = parser.parse_args(arguments)
    with worlds() as all_worlds:
        if given.bugs:
            return _bugs(all_worlds)
        with PLANTED[given.bug]() if given.bug else nullcontext():
            if given.count:
                return _many(all_worlds, range(given.seed, given.seed + given.count))
            broken = all_worlds.breaches(given.seed, _say)
            _say(f"seed {given.seed}: {len(broken)} promises broken")
            return 1 if broken else 0


def _many(all_worlds: Worlds, seeds: range) -> int:
    began, broken = time.monotonic(), 0
    for seed in seeds:
        found = all_worlds.breaches(seed)
        broken += bool(found)
        for breach in found[:BREACHES_TOLD]:
            _say(f"seed {seed}: {breach}")
    _say(f"{len(seeds)} seeds, {broken} broken, {time.monotonic() - began:.1f} s")
    return 1 if broken else 0


def _bugs(all_worlds: Worlds) -> int:
    missed = 0
    for name, plant in PLANTED.items():
        with plant():
            found = all_worlds.first_broken(range(BUG_SEEDS))
        missed += found is None
        _say(f"{name}: " + (f"seed {found[0]}: {found[1][0]}" if found else f"NOT FOUND in {BUG_SEEDS} seeds"))
    return 1 if missed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of ids come in another order in each process otherwise
        os.execve(  # noqa: S606  this program, once more
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main(sys.argv[1:]))
