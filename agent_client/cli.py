"""`jtnt-agent`: what a person does with the agent (seed 000, "CLI Tool")."""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from agent_client.config import NotEnrolled, load_config
from agent_client.control.local import DaemonUnreachable, ask_daemon
from agent_client.enrollment.enroll import Enrollment
from agent_client.enrollment.hub import HubAddress, HubDoor
from agent_client.errors import AgentError
from agent_client.execution.executor import OWN_FOLDER, serve
from agent_client.execution.places import ExecutorPlaces
from agent_client.execution.recollection import line_of, newest_jobs
from agent_client.exposition import exposition_of
from agent_client.inspection import Probe, check_connection
from agent_client.paths import Places
from agent_client.plugins.runner import run_plugin
from agent_client.plugins.settings import load_plugins, plugin_line
from agent_client.policy.file import PolicyFile, Unusable
from agent_client.policy.report import policy_lines
from agent_client.report import offline_lines, offline_report, status_lines, witness_lines
from agent_client.version import AGENT_VERSION
from agent_client.witness import Witness
from protocol.identity import EnrollmentToken, JoinString, MalformedIdentity

EXIT_USAGE: Final = 64
EXIT_NOT_RUNNING: Final = 3
EXIT_CONFIG: Final = 78
_EPILOG: Final = """examples:
  jtnt-agent enroll 'jtnt://hub.example.com:3001/#jtnte_…'      join with the line the hub gave you
  jtnt-agent enroll --token jtnte_… --hub https://hub.example.com:3001
  jtnt-agent status                                            ask the running daemon
  jtnt-agent test-connection                                   find out why it does not connect
  jtnt-agent witness --json                                    the hub's audit checkpoints kept here
  jtnt-agent jobs                                              who had what run here, and how it ended
  jtnt-agent policy check                                      what this machine lets jobs do
  jtnt-agent plugins test queue                                run a plugin of plugins.toml once
  jtnt-agentd                                                  run the daemon

Every command takes --data-dir DIR to keep all files in one folder instead of the system's places.
"""
_ENROLL_EPILOG: Final = """The token is sent only to a hub whose root certificate is the one the token names.

exit codes: 0 enrolled · 3 already enrolled · 4 hub not reached · 5 wrong hub (token not sent) · 6 refused by the hub
7 answer not believable · 64 wrong arguments · 73, 77 files cannot be written, or are open to others
75 the daemon is changing the files, try again · 1 not approved in time, or the key of an earlier try cannot be read
"""
_STATUS_EPILOG: Final = (
    "exit codes: 0 the daemon answered, connected or not · 3 no daemon runs there · 64 wrong arguments"
)
_WITNESS_EPILOG: Final = """Whoever cuts or rewrites the hub's audit log up to a checkpoint that a
machine has kept is found out. To compare, on the hub:

  jtnt-agent witness --json > witness.json
  jtnt-hub audit verify --witness witness.json
"""
_TEST_EPILOG: Final = """It opens no session, so a running daemon is not disturbed.

exit codes: 0 all well · 2 name not found · 3 nothing answers there · 4 not this fleet's hub
5 our certificate refused or expired · 6 answers, but not like a hub · 64 wrong arguments
77 files are open to others · 78 not enrolled, or wrongly configured · 1 stored certificates damaged
"""

_EXECUTOR_EPILOG: Final = """For a daemon that runs without rights: the executor runs as root, takes orders
only from the daemon's user, and verifies each of them itself. In config.json of the daemon: "executor_service": true.
Units for systemd are in the agent's README. Without this, the daemon starts an executor of its own when there are jobs.

exit codes: 0 stopped, or nothing to do for a while · 73, 77 files cannot be written, or are open to others
74 the journal cannot be opened · 1 the socket cannot be opened, or another executor runs
"""
_JOBS_COUNT: Final = 20
_JOBS_EPILOG: Final = """It reads the journal of this machine, with or without a daemon or a hub. The newest come first.

examples:
  jtnt-agent jobs --count 5
  jtnt-agent jobs --json | jq -r '.[] | select(.state != "finished") | .command_id'
  jtnt-agent jobs --folder /var/lib/jtnt-executor      where the executor is a service of its own

exit codes: 0 told · 64 wrong arguments · 74 the journal cannot be read
"""

_PLUGINS_EPILOG: Final = """plugins.toml, beside config.json, names programs and Python functions of plugins/:

  [[plugin]]
  name = "queue"                      # its figures are the metric type custom.queue
  command = ["queue-depth", "--all"]  # or: entry_point = "queues:depth"
  interval_seconds = 60
  timeout_seconds = 10
  labels = { team = "mail" }

It writes {"depth": 4} or lines `depth 4`. All files must be root's or the agent's, and not writable by others.

examples:
  jtnt-agent plugins list             the plugins, and what is wrong with the file
  jtnt-agent plugins test queue       run one now and show its figures; nothing is sent
  kill -HUP $(pidof jtnt-agentd)      let the daemon take up a changed plugins.toml

exit codes: 0 all well · 1 the plugin failed · 64 wrong arguments, or no such plugin · 77 others could change it
78 plugins.toml cannot be used
"""


_POLICY_EPILOG: Final = """policy.toml (/etc/jtnt/policy.toml on Linux, or `policy_file` of config.json) must be
root's; no hub can change it. Without the file, whatever the hub's signer signs may run. With one
that others could change or remove, that cannot be read, or that `policy_file` names and is not
there, nothing runs.

  [jobs]
  actions = ["exec", "script"]            # of exec script service packages kill reboot agent:restart
  programs = ["/usr/bin/uptime"]          # what exec may run
  script_sha256 = ["<hash>", "<hash> bash"]   # what script may run: with sh, or with the interpreter named
  environment = ["LANG"]                  # variables that orders may set; none where programs or scripts are listed
  run_as = ["nobody"]                     # users; the executor's own must be named too
  windows = ["Mon-Fri 08:00-18:00", "Sat 22:00-02:00"]   # local time
  per_hour = 60
  signatures = "hub+operator"             # a person's key beside the hub's (jtnt-hub operator-keys)
  operator_keys = ["<key id>"]            # which people's

exit codes: 0 there is none, or it is in force · 64 wrong arguments · 78 it cannot be used: no job runs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except MalformedIdentity as error:
        print(f"jtnt-agent: {error}", file=sys.stderr)
        return EXIT_USAGE
    except AgentError as error:
        print(f"jtnt-agent: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


class _Parser(argparse.ArgumentParser):
    """Ends with 64 on wrong arguments, as every other wrong usage here does."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jtnt-agent",
        description="The JTNT agent on this machine: join a hub, and see how it goes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jtnt-agent {AGENT_VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, help_: str, run: Callable[[argparse.Namespace], int], epilog: str = ""
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=help_, description=help_, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument("--data-dir", metavar="DIR", help="keep all files in DIR (default: the system's places)")
        command.set_defaults(run=run)
        return command

    enroll = add("enroll", "join a hub with a one-time token", _enroll, _ENROLL_EPILOG)
    _let_choose_how_to_enroll(enroll)
    plugins = add("plugins", "show the plugins of this machine, or try one", _plugins, _PLUGINS_EPILOG)
    _let_choose_a_plugin(plugins)
    jobs = _job_commands(add)
    policy = add("policy", "show what this machine itself lets jobs do", _policy, _POLICY_EPILOG)
    status = add("status", "show what the running daemon knows", _status, _STATUS_EPILOG)
    others = (
        add("witness", "show the hub's audit checkpoints that this machine keeps", _witness, _WITNESS_EPILOG),
        add("version", "show the agent's version", _version),
        add("test-connection", "try each step of the way to the hub", _test_connection, _TEST_EPILOG),
    )
    for command in (status, *others, plugins, jobs, policy):
        command.add_argument("--json", action="store_true", help="for programs")
    policy.add_argument("action", choices=("check",), help="read the file as the daemon does")
    status.add_argument("--prometheus", action="store_true", help="figures for a textfile collector")
    return parser


def _job_commands(add: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Return the one that can answer in JSON."""
    executor = add("executor", "run jobs for a daemon without rights (a service)", _executor, _EXECUTOR_EPILOG)
    jobs = add("jobs", "show the last jobs of this machine: who asked for what, and how it ended", _jobs, _JOBS_EPILOG)
    jobs.add_argument("--count", type=_count, default=_JOBS_COUNT, metavar="N", help="how many (default %(default)s)")
    for command in (executor, jobs):
        command.add_argument(
            "--folder", metavar="DIR", help=f"the files of an executor that is a service (its default: {OWN_FOLDER})"
        )
    return jobs


def _let_choose_how_to_enroll(enroll: argparse.ArgumentParser) -> None:
    enroll.add_argument("join_string", nargs="?", metavar="JOIN-STRING", help="jtnt://host:port/#token; quote it")
    enroll.add_argument("--token", help="the token alone, with --hub")
    enroll.add_argument("--hub", metavar="URL", help="https://host:port of the hub's agents' listener")
    enroll.add_argument("--force", action="store_true", help="give an enrolled machine a new identity")
    wait_help = "how long to wait for a person's approval where the hub wants one (default 600)"
    enroll.add_argument("--approval-timeout", type=_seconds, default=600.0, metavar="SECONDS", help=wait_help)


def _let_choose_a_plugin(plugins: argparse.ArgumentParser) -> None:
    plugins.add_argument("action", choices=("list", "test"), help="show them all, or run one now")
    plugins.add_argument("name", nargs="?", metavar="NAME", help="which one to test")


def _count(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,5}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of jobs; give 1 to 999999")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; give 0 or more")
    return seconds


def _enroll(options: argparse.Namespace) -> int:
    address, token = _invitation(options)
    places = Places.chosen(options.data_dir)
    enrollment = Enrollment(places, HubDoor(address), token, lambda text: print(text, flush=True))
    config = enrollment.run(force=options.force, approval_timeout_seconds=options.approval_timeout)
    print(f"enrolled as agent {config.agent_id} of organisation {config.organisation_id} at {config.hub_url}")
    if not options.data_dir:
        print(f"its files are in {' and '.join(dict.fromkeys(map(str, (places.config, places.state))))}")
    try:
        ask_daemon(places, "reload")
    except DaemonUnreachable:
        print(f"start it with: jtnt-agentd{places.option}")
    else:
        print("the running daemon has taken up the new identity")
    return 0


def _invitation(options: argparse.Namespace) -> tuple[HubAddress, EnrollmentToken]:
    """Raises MalformedIdentity, or WrongAddress."""
    if options.join_string and not options.token and not options.hub:
        join = JoinString.parse(options.join_string)
        return HubAddress.parse(join.hub_url), join.token
    if options.token and options.hub and not options.join_string:
        return HubAddress.parse(options.hub), EnrollmentToken.parse(options.token)
    raise MalformedIdentity("enroll wants either a JOIN-STRING, or both --token and --hub")


def _status(options: argparse.Namespace) -> int:
    places = Places.chosen(options.data_dir)
    try:
        status = ask_daemon(places, "status")
    except DaemonUnreachable:
        report = offline_report(places)
        if options.prometheus:
            sys.stdout.write(exposition_of(None))
            return EXIT_NOT_RUNNING
        print(_json(report) if options.json else "\n".join(offline_lines(report)))
        return EXIT_NOT_RUNNING
    if options.prometheus:
        sys.stdout.write(exposition_of(status))
        return 0
    print(_json(status) if options.json else "\n".join(status_lines(status)))
    return 0


def _witness(options: argparse.Namespace) -> int:
    checkpoints = Witness(Places.chosen(options.data_dir)).checkpoints()
    print(_json(checkpoints) if options.json else "\n".join(witness_lines(checkpoints)))
    return 0


def _plugins(options: argparse.Namespace) -> int:
    places = Places.chosen(options.data_dir)
    plugins = {plugin.name: plugin for plugin in load_plugins(places)}
    if options.action == "list":
        lines = [plugin_line(plugin) for plugin in plugins.values()] or [f"none: see {places.plugins_file}"]
        print(_json([*plugins.values()]) if options.json else "\n".join(lines))
        return 0
    if options.name not in plugins:
        wanted = f"there is no plugin {options.name!r}" if options.name else "plugins test wants the NAME of one"
        print(f"jtnt-agent: {wanted}; {places.plugins_file} has: {', '.join(plugins) or 'none'}", file=sys.stderr)
        return EXIT_USAGE
    figures = asyncio.run(run_plugin(plugins[options.name], places))
    print(_json(figures) if options.json else "\n".join(f"{name} = {value}" for name, value in figures.items()))
    return 0


def _executor(options: argparse.Namespace) -> int:
    return serve(options.data_dir, options.folder)


def _jobs(options: argparse.Namespace) -> int:
    places = Places.chosen(options.data_dir)
    folder = Path(options.folder) if options.folder else places.state
    jobs = newest_jobs(ExecutorPlaces(folder.absolute(), places).journal, options.count)
    print(_json(jobs) if options.json else "\n".join(map(line_of, jobs)) or "no job has run here yet")
    return 0


def _policy(options: argparse.Namespace) -> int:
    places = Places.chosen(options.data_dir)
    try:
        chosen = load_config(places).policy_file
    except NotEnrolled:
        chosen = None
    file = PolicyFile.of(places, chosen)
    state = file.current()
    lines = policy_lines(state, file.path)
    print(
        _json({"path": str(file.path), "usable": not isinstance(state, Unusable), "lines": lines})
        if options.json
        else "\n".join(lines)
    )
    return EXIT_CONFIG if isinstance(state, Unusable) else 0


def _version(options: argparse.Namespace) -> int:
    print(_json({"version": AGENT_VERSION}) if options.json else f"jtnt-agent {AGENT_VERSION}")
    return 0


def _test_connection(options: argparse.Namespace) -> int:
    probes: list[Probe] = []
    for probe in check_connection(Places.chosen(options.data_dir)):
        probes.append(probe)
        if not options.json:
            print(_line(probe), flush=True)
    exit_code = probes[-1].exit_code
    if options.json:
        print(_json({"ok": exit_code == 0, "exit_code": exit_code, "steps": probes}))
    return exit_code


def _line(probe: Probe) -> str:
    return f"{'ok    ' if probe.exit_code == 0 else 'FAILED'}  {probe.name:<18} {probe.detail}"


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


if __name__ == "__main__":
    sys.exit(main())
