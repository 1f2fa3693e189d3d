"""From a signed order to what this machine is to do for it: a program by argv, a signal, or an end of its own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from agent_client.execution.account import Account, NoAccount, account_of
from agent_client.execution.census import MARK
from agent_client.execution.process import Program, environment_of
from agent_client.execution.verification import Denied, Rule
from protocol.actions import (
    AgentRestartData,
    BadOrder,
    ExecData,
    KillData,
    PackagesData,
    RebootData,
    ScriptData,
    ServiceData,
    data_of_order,
)
from protocol.enumerations import Action
from protocol.envelope import JobEnvelope

_SYSTEMD: Final = Path("/run/systemd/system")
_NO_QUESTIONS: Final = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
_KEEP_SETTINGS: Final = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
_MANAGERS: Final[Mapping[str, tuple[str, ...]]] = {
    "apt-get": ("-y", "-q", *_KEEP_SETTINGS),
    "dnf": ("-y",),
    "zypper": ("--non-interactive",),
    "apk": (),
}
"""Package managers in the order in which they are looked for, with the flags that keep them from asking."""
_VERBS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "apt-get": {"install": ("install",), "remove": ("remove",), "upgrade": ("upgrade",), "refresh": ("update",)},
    "dnf": {"install": ("install",), "remove": ("remove",), "upgrade": ("upgrade",), "refresh": ("makecache",)},
    "zypper": {"install": ("install",), "remove": ("remove",), "upgrade": ("update",), "refresh": ("refresh",)},
    "apk": {"install": ("add",), "remove": ("del",), "upgrade": ("upgrade",), "refresh": ("update",)},
}
_LAUNCHCTL: Final[Mapping[str, tuple[str, ...]]] = {
    "start": ("kickstart",),
    "stop": ("kill", "SIGTERM"),
    "restart": ("kickstart", "-k"),
    "status": ("print",),
    "enable": ("enable",),
    "disable": ("disable",),
}
_SC: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "start": (("start",), ()),
    "stop": (("stop",), ()),
    "status": (("query",), ()),
    "enable": (("config",), ("start=", "auto")),
    "disable": (("config",), ("start=", "disabled")),
}
"""Verb → what goes before and behind the service's name."""


class Signal(Struct, frozen=True):
    """A signal to one process that is none of the agent's own."""

    process_id: int
    name: str


class Reboot(Struct, frozen=True):
    """The machine restarts by `program`, after the delay and once the result was told."""

    delay_seconds: int
    program: Program


class RestartAgent(Struct, frozen=True):
    """The daemon restarts once the result was told."""


Plan = Program | Signal | Reboot | RestartAgent


def refusal_of(envelope: JobEnvelope) -> Denied | None:
    """Return why a verified order cannot be one for this machine."""
    try:
        if envelope.run_as is not None:
            account_of(envelope.run_as)
        if envelope.action not in {Action.EXEC, Action.SCRIPT}:
            _check_bare(envelope)
            data_of_order(envelope.action, envelope.argv)
    except NoAccount as error:
        return Denied(Rule.RUN_AS, str(error))
    except BadOrder as error:
        return Denied(Rule.MALFORMED, f"the order cannot be carried out: {error}")
    if envelope.action is Action.EXEC and not (envelope.argv and envelope.argv[0]):
        return Denied(Rule.MALFORMED, "the order names no program")
    return None


def plan_of(envelope: JobEnvelope, script: Path | None, daemons: Collection[int] = ()) -> Plan:
    """Return what to do. `script`: where the script of such an order lies. `daemons`: processes of the agent's own.

    Raises BadOrder or NoAccount.
    """
    if envelope.action is Action.EXEC:
        return _found_by_name(_program(envelope, envelope.argv))
    if envelope.action is Action.SCRIPT:
        return _program(envelope, [_found(envelope.interpreter or "sh"), str(script), *envelope.argv])
    _check_bare(envelope)
    match data_of_order(envelope.action, envelope.argv):
        case ServiceData(verb=verb, name=name):
            return _program(envelope, _service(verb, name))
        case KillData(pid=pid, signal=signal_name):
            return _signal(pid, signal_name, daemons)
        case PackagesData(verb=packages_verb, names=names):
            return _program(envelope, _packages(packages_verb, names), _NO_QUESTIONS)
        case RebootData(delay_sec=delay_seconds):
            return Reboot(delay_seconds, _program(envelope, _reboot()))
        case AgentRestartData():
            return RestartAgent()
        case ExecData() | ScriptData():
            raise BadOrder(f"{envelope.action} is not of this kind")
        case other:
            assert_never(other)


def account_for(envelope: JobEnvelope) -> Account | None:
    """Raises NoAccount."""
    return None if envelope.run_as is None else account_of(envelope.run_as)


def _check_bare(envelope: JobEnvelope) -> None:
    """A variable such as LD_PRELOAD makes a program of its sender's choice of the one that an action stands for.

    A policy that allows the action alone would allow that too. Raises BadOrder.
    """
    others = {
        "environment": envelope.environment,
        "working directory": envelope.working_directory,
        "user": envelope.run_as,
        "script": envelope.interpreter or envelope.script_sha256,
    }
    if given := [name for name, value in others.items() if value]:
        raise BadOrder(f"{envelope.action} takes no {given[0]}")


def _found_by_name(program: Program) -> Program:
    """Return it with the file that its name stands for, which is the one that the machine's policy was asked about.

    Left to the kernel, another file of that name could run, where the job's user may not run the first.
    """
    name = program.argv[0]
    if sys.platform == "win32" or "/" in name:
        return program
    path = shutil.which(name, path=program.environment.get("PATH"))
    return msgspec.structs.replace(program, executable=path)


def _program(envelope: JobEnvelope, argv: list[str], more: Mapping[str, str] | None = None) -> Program:
    account = account_for(envelope)
    whose = {} if account is None else account.environment
    environment = environment_of({**whose, **(more or {}), **envelope.environment, MARK: envelope.job_id})
    return Program(
        job_id=envelope.job_id,
        argv=argv,
        environment=environment,
        timeout_seconds=envelope.timeout_sec,
        working_directory=envelope.working_directory,
        account=account,
    )


def _found(program: str) -> str:
    """Return the path of a program of this process's own PATH, which an order cannot change. Raises BadOrder."""
    path = shutil.which(program)
    if path is None:
        raise BadOrder(f"there is no program {program!r} on this machine")
    return path


def _service(verb: str, name: str) -> list[str]:
    """Return the service manager's command: systemd's, launchd's or Windows'; the latter two are unproven."""
    if sys.platform == "darwin":
        if verb not in _LAUNCHCTL:
            raise BadOrder(f"launchd has no way to {verb} a service")
        return [_found("launchctl"), *_LAUNCHCTL[verb], f"system/{name}"]
    if sys.platform == "win32":
        if verb not in _SC:
            raise BadOrder(f"Windows has no way to {verb} a service in one step; stop it, then start it")
        before, behind = _SC[verb]
        return [_found("sc"), *before, name, *behind]
    return [_found("systemctl"), "--no-pager", "--no-ask-password", verb, "--", name]


def _signal(pid: int, name: str, daemons: Collection[int]) -> Signal:
    if pid in {os.getpid(), os.getppid(), *daemons}:
        raise BadOrder(f"process {pid} is the agent itself; to begin it anew, order agent:restart")
    return Signal(pid, name)


def _packages(verb: str, names: list[str]) -> list[str]:
    manager = next((name for name in _MANAGERS if shutil.which(name)), None)
    if manager is None:
        raise BadOrder(f"this machine has none of the package managers {', '.join(_MANAGERS)}")
    if any(name.endswith("-") for name in names):
        raise BadOrder("a name that ends in a dash would turn the order round")
    said = _VERBS[manager][verb]
    if verb == "refresh":
        names = []
    if manager == "apt-get" and verb == "upgrade" and names:
        said = ("install", "--only-upgrade")
    return [_found(manager), *_MANAGERS[manager], *said, *(["--", *names] if names else [])]


def _reboot() -> list[str]:
    if sys.platform == "win32":
        return [_found("shutdown"), "/r", "/t", "0"]
    commands = [("systemctl", ["reboot"]), ("shutdown", ["-r", "now"])]
    for name, arguments in commands if _SYSTEMD.is_dir() else reversed(commands):
        if path := shutil.which(name):
            return [path, *arguments]
    raise BadOrder("there is no program on this machine that restarts it")
