"""A process that is killed at one step of its work on certificate files: `python -m tests.agent_client.dying`.

    STEP swap FOLDER      a change of certificate, from a new key to the promoted pair
    STEP daemon FOLDER    the whole daemon

It dies by SIGKILL right before the file operation of that number, counted from 1, that touches the folder's
certificates; with `daemon` only renames count. One that comes to its end says so on standard output.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agent_client.daemon import main as daemon
from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs

READING = os.O_RDONLY
WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod"}


def die_at(step: int, certs: str, watched: set[str]) -> None:
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event not in watched or not str(arguments[0]).startswith(certs):
            return
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def swap(places: Places) -> None:
    pairs = Pairs(places)
    key, certificate = (places.state / "new.key").read_text(), (places.state / "new.crt").read_bytes()
    pairs.begin(key)
    pairs.complete(certificate)
    pairs.promote()


def main() -> None:
    step, work, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    places = Places.inside(folder)
    if work == "swap":
        die_at(step, str(places.certs), WATCHED)
        swap(places)
        sys.stdout.write("done")
    else:
        die_at(step, str(places.certs), {"os.rename"})
        sys.exit(daemon(["--data-dir", str(folder)]))


if __name__ == "__main__":
    main()
