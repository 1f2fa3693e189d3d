"""`jtnt-hub`: the hub and its administration, on the machine it runs on."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from cyclopts import App, CycloptsError

from hub_server.cli.examples import examples
from hub_server.cli.outcome import CommandFailed, Exit

DISTRIBUTION: Final = "jtnt"
HELP: Final = """The JTNT hub and its administration.

Commands work on the data folder (--data-dir, else JTNT_DATA_DIR, else var), also while the hub runs on it.

Exit codes: 1 refused, 2 wrong usage, 3 port in use, 4 folder not writable, 5 another hub runs there,
6 database newer, 7 database not usable, 8 keys not usable, 9 no hub there yet, 78 wrong settings.
"""

START_OBJECTS: Final = 1_000_000
"""Made before the first garbage collection. What a start imports stays: to look through it as often as Python does by
itself takes a seventh of the start. A hub that serves sets thresholds of its own."""

COMMANDS: Final = (
    (
        "serve",
        "Run the hub until SIGTERM or Ctrl-C. It makes what it needs at its first start.",
        (
            "jtnt-hub serve --data-dir /var/lib/jtnt",
            "JTNT_AGENTS__HOST=0.0.0.0 jtnt-hub serve --config /etc/jtnt/hub.toml",
        ),
    ),
    (
        "init",
        "Make a hub's data folder: database, certificate authority, first organisation.",
        ("jtnt-hub init --data-dir /var/lib/jtnt",),
    ),
    (
        "signer",
        "Sign commands for a hub of another user, as a service of its own. Hubs have one of their own without it.",
        ("jtnt-hub signer --listen /run/jtnt/signer.sock --key-file signer.key --log-file signer.log --user jtnt",),
    ),
    (
        "bench",
        "Measure what a hub can do on this machine (Linux): one of its own, simulated agents, about a minute.",
        (
            "jtnt-hub bench",
            "jtnt-hub bench --agents 1000 --seconds 60 --folder /var/tmp",
            "jtnt-hub bench --json > bench.json",
        ),
    ),
)
"""(name and module of `hub_server.cli`, help, examples) of each single command."""

GROUPS: Final = (
    ("users", "users", "People who may sign in."),
    ("org", "organisations", "Organisations and how much each may have."),
    ("audit", "audit", "What was done, and the proof of it."),
    ("token", "tokens", "Enrollment tokens, with which machines join."),
    ("key", "organisation_keys", "Organisation keys, with which programs register machines."),
    ("ca", "authorities", "The hub's certificate authority and signing keys."),
    ("operator-keys", "operator_keys", "People whose signature counts beside the hub's."),
    ("secrets", "secrets", "The key that seals secrets in the database."),
)
"""(name, module of `hub_server.cli`, help) of each group of commands."""


def version() -> None:
    """Print the version."""
    print(version_text())


def version_text() -> str:
    return f"jtnt-hub {metadata.version(DISTRIBUTION)}"


def application() -> App:
    """Return the command line. Each command's module is imported when the command is used: the hub's are large."""
    app = App(
        name="jtnt-hub",
        help=HELP,
        help_epilogue=examples(
            "jtnt-hub init --data-dir /var/lib/jtnt",
            "jtnt-hub users create ada --role org-admin --data-dir /var/lib/jtnt",
            "jtnt-hub serve --data-dir /var/lib/jtnt",
            "jtnt-hub token create --uses 20 --ttl 2h --data-dir /var/lib/jtnt",
        ),
        version=version_text,
        result_action="return_value",
        exit_on_error=False,
        print_error=True,
    )
    for name, help_text, lines in COMMANDS:
        app.command(f"hub_server.cli.{name}:{name}", name=name, help=help_text, help_epilogue=examples(*lines))
    for name, module, help_text in GROUPS:
        app.command(f"hub_server.cli.{module}:app", name=name, help=help_text)
    app.command(version, help_epilogue=examples("jtnt-hub version"))
    return app


def run(arguments: Sequence[str]) -> int:
    """Do what `arguments` ask; return the exit code."""
    try:
        application()(list(arguments))
    except CycloptsError:  # it has printed what was wrong
        return Exit.USAGE
    except CommandFailed as failed:
        print(f"jtnt-hub: {failed.message}", file=sys.stderr)
        return failed.code
    return Exit.DONE


def main() -> None:
    gc.set_threshold(START_OBJECTS)
    sys.exit(run(sys.argv[1:]))
