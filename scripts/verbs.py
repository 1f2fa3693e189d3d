"""The verbs of `scripts/dev.py`. Standard library only: it runs before anything is installed."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.environment import Environment, Part, SetupFailed, say, set_up
from scripts.pins import lock
from tests.servers.chromium import NoChromium

ROOT: Final = Path(__file__).resolve().parent.parent
USAGE: Final = "python3 scripts/dev.py VERB [ARGUMENT ...]"
EXAMPLES: Final = """\
examples:
  python3 scripts/dev.py up                       start the hub with this machine as its first agent
  python3 scripts/dev.py up --web-port 8080       its other options: up --help
  python3 scripts/dev.py test                     all tests
  python3 scripts/dev.py test -k enrollment -x    whatever pytest understands
  python3 scripts/dev.py test -n 0 tests/protocol one after the other
  python3 scripts/dev.py check                    everything that is checked without running it
  python3 scripts/dev.py prove main-job           show with figures that a promise holds
  python3 scripts/dev.py run jtnt-agent --help    any program of the environment, in your current folder
  python3 scripts/dev.py lock --upgrade           newer pins, as far as pyproject.toml allows

Each verb does the whole set-up by itself and inside this folder only. It needs Python 3.11 or newer with pip or venv.
"""
SERVING: Final = ("jtnt-hub", "serve")
HELP: Final = frozenset({"-h", "--help"})
WINDOWS: Final = os.name == "nt"
INTERRUPTED: Final = 130
NOT_FOUND: Final = 127


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what it does, what must be ready for it, and its steps by name; each step is a command line."""

    summary: str
    parts: frozenset[Part]
    steps: Mapping[str, Sequence[str]]


SLOWING: Final = frozenset({"PYTHONDONTWRITEBYTECODE"})
"""A hub whose libraries are compiled anew at every start needs three seconds for it instead of one."""


def module(name: str, *arguments: str) -> Sequence[str]:
    """Return the command line that runs the module `name`."""
    return ("python", "-m", name, *arguments)


CHECKS: Final[Mapping[str, Sequence[str]]] = {
    "format": ("ruff", "format", "--check", "."),
    "lint": ("ruff", "check", "."),
    "types": ("mypy",),
    "generated files": module("scripts.generate", "--check"),
    "dashboard's types": ("python", "hatch_build.py", "check"),
    "dashboard's bundle": ("python", "hatch_build.py"),
    "architecture": module("pytest", "-q", "tests/architecture"),
}
SIDE_BY_SIDE: Final = ("-n", str(min(6, 2 + (os.cpu_count() or 1))), "--dist", "loadfile", "--no-loadscope-reorder")
"""Most tests wait for sockets, disks and processes more than they compute, so that there are two more processes
than cores; `-n 0` runs them one by one.
"""
EVERYTHING: Final = frozenset(Part)
BUNDLE: Final = frozenset({Part.BUNDLE})
TOOLS: Final = frozenset({Part.NODE_PACKAGES})
VERBS: Final[Mapping[str, Verb]] = {
    "up": Verb("start the hub, with this machine as its first agent", BUNDLE, {"up": module("scripts.up")}),
    "test": Verb("run the tests; arguments go to pytest", EVERYTHING, {"test": module("pytest", *SIDE_BY_SIDE)}),
    "check": Verb("check format, lint, types, generated files, dashboard, architecture", TOOLS, CHECKS),
    "bench": Verb("measure the product under load", BUNDLE, {"bench": module("scripts.bench")}),
    "prove": Verb("NAME: show that a promise holds", EVERYTHING, {"prove": module("scripts.prove")}),
    "generate": Verb("write the generated files anew", TOOLS, {"generate": module("scripts.generate")}),
    "run": Verb("CMD ...: run a program of the environment", frozenset(), {}),
    "lock": Verb("write requirements/*.txt anew", frozenset(), {}),
}


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks and return the exit code; a single step replaces this process where it can."""
    verb = verb_of(arguments[:1])
    rest = arguments[1:]
    if asks_for_help(verb, rest) and verb in {"lock", "check"}:
        say(f"{verb}: {VERBS[verb].summary}")
        return 0
    if asks_for_help(verb, rest) and verb == "up":  # it needs the standard library alone
        return subprocess.run([sys.executable, "-m", "scripts.up", *rest], cwd=ROOT, check=False).returncode
    try:
        if verb == "lock":
            lock(ROOT, rest)
            return 0
        environment = set_up(ROOT, parts_for(verb, rest))
    except SetupFailed as failure:
        sys.stderr.write(failure.output)
        say(str(failure))
        return 1
    except (NoChromium, OSError) as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("stopped; the next start goes on from here")
        return INTERRUPTED
    if verb == "run":
        return become(environment, rest or ("python",), Path.cwd())
    if len(VERBS[verb].steps) == 1:
        (command,) = VERBS[verb].steps.values()
        return become(environment, (*command, *rest), ROOT)
    return run_all(environment, VERBS[verb].steps)


def verb_of(arguments: Sequence[str]) -> str:
    """Return the verb that `arguments` begin with; without one, say what there is and exit."""
    summaries = "\n".join(f"  {name:<10}{verb.summary}" for name, verb in VERBS.items())
    parser = argparse.ArgumentParser(
        usage=USAGE,
        description=f"verbs:\n{summaries}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=True,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="what to do; all that follows is the verb's own")
    verb = parser.parse_args(arguments).verb
    assert isinstance(verb, str)
    return verb


def asks_for_help(verb: str, rest: Sequence[str]) -> bool:
    """Tell whether it is the verb itself that help is asked of; behind `run` it is a program."""
    return verb != "run" and not HELP.isdisjoint(rest)


def parts_for(verb: str, rest: Sequence[str]) -> frozenset[Part]:
    """Return what must be ready: nothing for help, and the dashboard for a hub that is run, which would serve it as it
    was built before.
    """
    if not HELP.isdisjoint(rest):
        return frozenset()
    return BUNDLE if verb == "run" and tuple(rest[:2]) == SERVING else VERBS[verb].parts


def become(environment: Environment, command: Sequence[str], folder: Path) -> int:
    """Run `command` in `folder` in place of this process, so that signals and the exit code are its own."""
    variables = variables_of(environment)
    program = shutil.which(command[0], path=variables["PATH"])
    if program is None:
        say(f"there is no program {command[0]!r}, neither in the environment nor on the PATH")
        return NOT_FOUND
    os.chdir(folder)
    if not WINDOWS:  # there, exec would detach the new process from the terminal
        os.execve(program, [program, *command[1:]], variables)  # noqa: S606
    return subprocess.run([program, *command[1:]], env=variables, check=False).returncode


def run_all(environment: Environment, steps: Mapping[str, Sequence[str]]) -> int:
    """Run every step, whatever became of the one before; return 0 when all succeeded, else 1."""
    variables = variables_of(environment)
    failed: list[str] = []
    for name, command in steps.items():
        say(f"{name}: {' '.join(command)}")
        program = shutil.which(command[0], path=variables["PATH"])
        if program is None:
            say(f"there is no program {command[0]!r} in the environment")
            failed.append(name)
        elif subprocess.run([program, *command[1:]], cwd=ROOT, env=variables, check=False).returncode:
            failed.append(name)
    for name in steps:
        say(f"{'FAILED' if name in failed else 'ok':<8}{name}")
    return 1 if failed else 0


def variables_of(environment: Environment) -> Mapping[str, str]:
    """Return the environment variables of a program that runs inside `environment`."""
    path = f"{environment.binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    inherited = {name: value for name, value in os.environ.items() if name not in SLOWING}
    return {**inherited, "PATH": path, "VIRTUAL_ENV": str(environment.home)}
