"""The words of `jtnt`. Nothing of the client is imported here: help is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from hub_server.terminal.durations import BadDuration, duration_of, seconds_of
from protocol.limits import COMMAND_EXPIRY_MAX_SECONDS, COMMAND_TIMEOUT_MAX_SECONDS

SEPARATOR: Final = "--"
EPILOG: Final = """examples:
  jtnt login https://hub.example:3000             sign in; the hub is remembered
  jtnt agents --status OFFLINE                    machines that are away, and why
  jtnt run web-1 -- uptime                        live output; its exit code is passed on
  jtnt run web-1 web-2 --script check.sh -- -v    a script with arguments on two machines
  jtnt jobs --agent web-1                         what was run there
  jtnt watch JOB                                  its output from the first byte; Ctrl-C leaves it running
  JTNT_HUB=https://hub.example:3000 JTNT_TOKEN=jtntk_… jtnt agents --json

exit codes: that of the job, 128 and the signal's number where one ended it · 1 one of several machines failed
2 wrong usage, no such machine · 3 no connection · 4 not signed in · 124 timeout
125 refused, denied, expired, lost half-way · 126 could not start · 130 cancelled, or left with Ctrl-C

Every command has --help with examples. JTNT_TOKEN: an API key, in place of a sign-in.
"""


class Command(argparse.ArgumentParser):
    """Says where the examples are when it is used wrongly."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` has examples\n")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options; `rest` is what stands behind `--`, None without one. Exits with 2 for wrong ones."""
    before, rest = list(arguments), None
    if SEPARATOR in before:
        at = before.index(SEPARATOR)
        before, rest = before[:at], before[at + 1 :]
    parser = _parser()
    options = parser.parse_args(before)
    options.rest = rest
    if rest is not None and not getattr(options, "takes_rest", False):
        parser.error("nothing may follow -- here")
    return options


class _Words:
    """The subcommands, as they are added."""

    def __init__(self, parser: Command) -> None:
        self._commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
        self._hub = Command(add_help=False)
        self._hub.add_argument(
            "--hub", metavar="URL", help="which hub (default: JTNT_HUB, else that of the last login)"
        )
        self._hub.add_argument("--ca", type=Path, metavar="FILE", help="authority of the hub's certificate, in PEM")

    def add(self, name: str, module: str, function: str, help_: str, examples: str, *, hub: bool = True) -> Command:
        command = self._commands.add_parser(
            name,
            help=help_,
            description=help_[:1].upper() + help_[1:] + ".",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self._hub] if hub else [],
            allow_abbrev=False,
        )
        command.set_defaults(module=module, function=function)
        return command


def _parser() -> Command:
    parser = Command(
        prog="jtnt",
        description="Machines and their jobs, from your terminal.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version, and nothing else")
    words = _Words(parser)
    for add in (_add_signing_in, _add_listing, _add_run, _add_actions, _add_jobs, _add_keys):
        add(words)
    return parser


def _add_signing_in(words: _Words) -> None:
    login = words.add(
        "login",
        "signing_in",
        "login",
        "sign in to a hub and remember it",
        "  jtnt login https://hub.example:3000\n  jtnt login http://localhost:3000 --username ada\n"
        "  pass show jtnt/ada | jtnt login https://hub.example --username ada --password-stdin --otp 123456\n"
        "  jtnt login https://hub.example --ca company-root.pem",
        hub=False,
    )
    login.add_argument("url", metavar="URL")
    login.add_argument("--username", metavar="NAME")
    login.add_argument("--organisation", metavar="NAME", help="for who is in several")
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    login.add_argument("--otp", metavar="CODE", help="code of the authenticator, or a recovery code")
    login.add_argument("--ca", type=Path, metavar="FILE", help="authority of the hub's certificate, in PEM")
    login.add_argument(
        "--fingerprint", metavar="SHA256", help="trust the hub's own certificate, which has this fingerprint"
    )
    words.add(
        "logout", "signing_in", "logout", "end the sign-in", "  jtnt logout\n  jtnt logout --hub https://hub.example"
    )


def _add_listing(words: _Words) -> None:
    agents = words.add(
        "agents",
        "listing",
        "agents",
        "list the machines",
        "  jtnt agents\n  jtnt agents --status OFFLINE --status ERROR --site berlin\n  jtnt agents web --tag production"
        " --json",
    )
    agents.add_argument("text", nargs="?", default="", metavar="TEXT", help="found in name, host name, site, tags")
    agents.add_argument(
        "--status",
        action="append",
        default=[],
        metavar="STATUS",
        type=str.upper,
        help="ACTIVE, OFFLINE, ERROR or MAINTENANCE; may be repeated",
    )
    agents.add_argument("--tag", action="append", default=[], metavar="TAG", help="may be repeated; all must be there")
    agents.add_argument("--site", metavar="SITE")
    _add_json(agents, "print one JSON document")


def _add_run(words: _Words) -> None:
    run = words.add(
        "run",
        "orders",
        "run",
        "run a program or a script on machines",
        "  jtnt run web-1 -- uptime\n  jtnt run web-1 web-2 --timeout 5m -- apt-get -s upgrade\n"
        "  jtnt run web-1 --script check.sh --interpreter bash -- --verbose\n"
        "  jtnt run laptop --expires 2d --no-wait -- softwareupdate -l\n"
        "  jtnt run db-1 --as postgres --env PGDATABASE=app --cwd /tmp --sign -- psql -c 'select 1'\n"
        "  jtnt run web-1 --reason 'disk full, ticket 4711' -- sh -c 'df -h | tail -1'\n"
        "There is no shell unless you ask for one. Ctrl-C cancels the job, Ctrl-C again leaves it running.\n"
        "Exit code: that of the job; `jtnt --help` lists the others.",
    )
    run.usage = (
        "jtnt run [options] AGENT [AGENT ...] -- PROGRAM [ARGUMENT ...]\n"
        "       jtnt run [options] AGENT [AGENT ...] --script FILE [-- ARGUMENT ...]"
    )
    run.add_argument("agents", nargs="+", metavar="AGENT", help="id or its beginning, name or host name")
    run.add_argument("--script", type=Path, metavar="FILE", help="its text is sent; what follows -- are its arguments")
    run.add_argument("--interpreter", default=None, metavar="NAME", help="program that runs the script (default: sh)")
    run.add_argument("--as", dest="run_as", metavar="USER", help="user of the machine to run as")
    run.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    run.add_argument("--cwd", metavar="FOLDER", help="folder of the machine to run in")
    run.set_defaults(takes_rest=True)
    _add_order_options(run)


def _add_actions(words: _Words) -> None:
    service = words.add(
        "service",
        "orders",
        "service",
        "do something to a service",
        "  jtnt service web-1 restart nginx\n  jtnt service web-1 status nginx; echo $?    as systemctl ends",
    )
    _add_arguments(service, ("agent", "AGENT"))
    verbs = ("start", "stop", "restart", "reload", "status", "enable", "disable")
    service.add_argument("verb", metavar="VERB", choices=verbs, help=", ".join(verbs))
    _add_arguments(service, ("name", "SERVICE"))
    kill = words.add("kill", "orders", "kill", "send a signal to a process", "  jtnt kill web-1 4711 --signal KILL")
    _add_arguments(kill, ("agent", "AGENT"))
    kill.add_argument("pid", type=int, metavar="PID")
    kill.add_argument("--signal", default="TERM", metavar="NAME", help="TERM, KILL, HUP, INT, USR1 or USR2")
    packages = words.add(
        "packages",
        "orders",
        "packages",
        "install, remove, upgrade or refresh packages",
        "  jtnt packages web-1 refresh\n  jtnt packages web-1 install jq --timeout 10m\n"
        "  jtnt packages web-1 upgrade --timeout 30m        all of them",
    )
    _add_arguments(packages, ("agent", "AGENT"))
    changes = ("install", "remove", "upgrade", "refresh")
    packages.add_argument("verb", metavar="VERB", choices=changes, help=", ".join(changes))
    packages.add_argument("names", nargs="*", metavar="PACKAGE")
    reboot = words.add("reboot", "orders", "reboot", "restart a machine", "  jtnt reboot web-1 --delay 60")
    _add_arguments(reboot, ("agent", "AGENT"))
    reboot.add_argument("--delay", type=int, default=5, metavar="SECONDS", help="before it, 3600 at most (default: 5)")
    restart = words.add(
        "restart-agent", "orders", "restart_agent", "restart a machine's agent", "  jtnt restart-agent web-1"
    )
    _add_arguments(restart, ("agent", "AGENT"))
    for command in (service, kill, packages, reboot, restart):
        _add_order_options(command)


def _add_jobs(words: _Words) -> None:
    jobs = words.add(
        "jobs",
        "listing",
        "jobs",
        "list the newest jobs",
        "  jtnt jobs\n  jtnt jobs --agent web-1 --status FAILED --limit 10 --json\n"
        "The table fits the terminal; `jtnt jobs ID` and --json cut nothing. The beginning of an id names a job too.",
    )
    jobs.add_argument("job", nargs="?", metavar="JOB", help="show this one alone, as `jtnt job` does")
    jobs.set_defaults(output=False)
    jobs.add_argument("--agent", metavar="AGENT", help="of this machine: id or its beginning, name or host name")
    jobs.add_argument(
        "--status", metavar="STATUS", type=str.upper, help="PENDING, SENT, EXECUTING, COMPLETED, FAILED or CANCELLED"
    )
    jobs.add_argument("--limit", type=int, default=50, metavar="N", help="how many, 100000 at most (default: 50)")
    _add_json(jobs, "print one JSON document")
    job = words.add("job", "listing", "job", "show one job", "  jtnt job 3f0c51d2\n  jtnt job JOB --output > kept.txt")
    _add_arguments(job, ("job", "JOB"))
    job.add_argument("--output", action="store_true", help="print what it has written so far, and nothing else")
    _add_json(job, "print one JSON document")
    _add_raw(job)
    watch = words.add(
        "watch",
        "orders",
        "watch",
        "follow a job to its end, from its first byte",
        "  jtnt watch JOB\n  jtnt watch JOB --json\n"
        "Ctrl-C leaves the job running; `jtnt cancel JOB` ends it. Exit code: that of the job.",
    )
    _add_arguments(watch, ("job", "JOB"))
    _add_json(watch, "print JSON lines: output and result")
    _add_raw(watch)
    cancel = words.add("cancel", "orders", "cancel", "ask for a job's end", "  jtnt cancel JOB")
    _add_arguments(cancel, ("job", "JOB"))
    _add_json(cancel, "print one JSON document")


def _add_keys(words: _Words) -> None:
    make = words.add(
        "keys",
        "keys",
        "keys",
        "make or show the key that `run --sign` signs with",
        "  jtnt keys make --name ada\n  jtnt keys show\n  jtnt keys make --no-passphrase     for a program",
        hub=False,
    )
    make.add_argument("verb", choices=("make", "show"), metavar="make|show")
    make.add_argument("--name", metavar="NAME", help="how the key is called (default: your user name)")
    make.add_argument("--no-passphrase", action="store_true", help="whoever reads the file may sign")
    _add_json(make, "print one JSON document")


def _add_order_options(command: Command) -> None:
    command.add_argument("--timeout", type=_timeout, metavar="TIME", help="for its run: 90s, 30m, 12h (default: 60s)")
    command.add_argument(
        "--expires", type=_expiry, metavar="TIME", help="how long it waits for a machine that is away (default: 15m)"
    )
    command.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=True, help="follow it to its end (default)"
    )
    command.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit; a policy may ask for it")
    command.add_argument("--sign", action="store_true", help="sign the order with your key too: `jtnt keys make`")
    _add_json(command, "print JSON lines: job, output and result")
    _add_raw(command)


def _add_arguments(command: Command, *named: tuple[str, str]) -> None:
    for name, shown in named:
        command.add_argument(name, metavar=shown)


def _add_json(command: Command, help_: str) -> None:
    command.add_argument("--json", action="store_true", dest="as_json", help=help_)


def _add_raw(command: Command) -> None:
    command.add_argument("--raw", action="store_true", help="let the job's output reach the terminal as it is")


def _timeout(text: str) -> int:
    return _seconds_within(text, COMMAND_TIMEOUT_MAX_SECONDS)


def _expiry(text: str) -> int:
    return _seconds_within(text, COMMAND_EXPIRY_MAX_SECONDS)


def _seconds_within(text: str, most: int) -> int:
    try:
        seconds = seconds_of(text)
    except BadDuration as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not 1 <= seconds <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1s to {duration_of(most)}")
    return seconds
