"""`jtnt-agentd`: the process. Small on purpose: what it does not import, no machine of the fleet pays for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Final

from agent_client.later import put_off
from agent_client.version import AGENT_VERSION

USAGE: Final = """usage: jtnt-agentd [--data-dir DIR] [--version] [--help]

The agent's daemon: holds the connection to the hub until SIGTERM. Logs to standard output, one JSON object a line.
SIGHUP reloads the configuration. Enroll first: jtnt-agent enroll JOIN-STRING

  --data-dir DIR   keep configuration, certificates and spool in DIR (default: the system's own places)

exit codes: 0 orderly stop · 64 wrong arguments · 73, 77 files cannot be written, or are open to others
74 the spool cannot be opened · 75 another daemon runs there · 78 not enrolled, or wrongly configured
"""
EXIT_USAGE: Final = 64
# Libraries import these at their start, and need them only for what the daemon does not do (proxies, development
# versions, older Pythons): together four megabytes of every machine's memory.
UNUSED: Final = ("importlib.metadata", "msgspec.inspect", "typing_extensions", "urllib.request")
# These are for what seldom happens (a traceback, text of a locale) or never does: a megabyte more.
SELDOM_USED: Final = ("inspect", "locale", "textwrap", "tokenize")


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    match given:
        case ["--help"] | ["-h"]:
            sys.stdout.write(USAGE)
            return 0
        case ["--version"]:
            sys.stdout.write(f"jtnt-agentd {AGENT_VERSION}\n")
            return 0
        case []:
            return _run(None)
        case ["--data-dir", directory]:
            return _run(directory)
        case _:
            sys.stderr.write(USAGE)
            return EXIT_USAGE


def _run(data_dir: str | None) -> int:
    put_off(SELDOM_USED)
    with kept_out(UNUSED):
        # Imported here, so that what it imports finds the unused modules kept out.
        from agent_client.service import run_daemon  # noqa: PLC0415
    return run_daemon(data_dir)


@contextmanager
def kept_out(names: Sequence[str]) -> Iterator[None]:
    """Let imports inside the block find empty modules under `names`. Afterwards they can be imported in earnest."""
    put = {name: ModuleType(name) for name in names if name not in sys.modules}
    sys.modules.update(put)
    try:
        yield
    finally:
        for name in put:
            del sys.modules[name]


if __name__ == "__main__":
    sys.exit(main())
