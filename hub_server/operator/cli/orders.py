"""`jtnt run`, `service`, `kill`, `packages`, `reboot`, `restart-agent`, `watch`, `cancel`."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from hub_server.operator.cli.asking import leavable
from hub_server.operator.cli.errands import DATA, Errand, attend, place_of, say
from hub_server.operator.cli.known_jobs import job_called
from hub_server.operator.cli.outcome import Exit, Failed
from hub_server.operator.cli.printing import JsonLines, NamedLines, Printer, json_text, own_streams
from hub_server.operator.cli.session import connected
from hub_server.operator.client import Operator
from hub_server.operator.errors import NotConnected
from hub_server.operator.jobs import Job
from hub_server.operator.keys import OperatorKey, needs_passphrase
from hub_server.operator.machines import machine_called, names_of, told_apart
from hub_server.operator.saved import KEY_NAME, config_folder
from hub_server.terminal.durations import duration_of
from protocol.actions import AnyData, BadOrder, data_of
from protocol.enumerations import Action, AgentStatus
from protocol.limits import COMMAND_EXPIRY_SECONDS, SCRIPT_MAX_BYTES

DEFAULT_INTERPRETER: Final = "sh"


async def run(options: argparse.Namespace) -> int:
    if options.script is None:
        if options.interpreter is not None:
            raise Failed("--interpreter is for --script FILE", Exit.USAGE)
        if not options.rest:
            raise Failed("say what to run, behind --: jtnt run AGENT -- PROGRAM ARGUMENTS", Exit.USAGE)
        what: dict[str, Any] = {"argv": options.rest}
        action = Action.EXEC
    else:
        what = {"script": _text_in(options.script), "arguments": options.rest or []}
        what["interpreter"] = options.interpreter or DEFAULT_INTERPRETER
        action = Action.SCRIPT
    process = {"environment": _environment(options.env), "workingDirectory": options.cwd, "runAs": options.run_as}
    return await _order(options, list(dict.fromkeys(options.agents)), _data(action, {**what, **process}))


async def service(options: argparse.Namespace) -> int:
    return await _order(options, [options.agent], _data(Action.SERVICE, {"verb": options.verb, "name": options.name}))


async def kill(options: argparse.Namespace) -> int:
    signal = options.signal.upper().removeprefix("SIG")
    return await _order(options, [options.agent], _data(Action.KILL, {"pid": options.pid, "signal": signal}))


async def packages(options: argparse.Namespace) -> int:
    return await _order(
        options, [options.agent], _data(Action.PACKAGES, {"verb": options.verb, "names": options.names})
    )


async def reboot(options: argparse.Namespace) -> int:
    return await _order(options, [options.agent], _data(Action.REBOOT, {"delaySec": options.delay}))


async def restart_agent(options: argparse.Namespace) -> int:
    return await _order(options, [options.agent], _data(Action.AGENT_RESTART, {}))


async def watch(options: argparse.Namespace) -> int:
    """Follow a job that is there already, and may be somebody else's: Ctrl-C leaves it."""
    async with connected(options) as hub:
        job = await job_called(hub, options.job)
        name = (await names_of(hub, [job.agent_id])).get(job.agent_id, job.agent_id)
        printer = _printer(options, name, is_one=True)
        return await attend([Errand(job.id, partial(hub.job, job.id), printer)], waits=True, cancels=False)


async def cancel(options: argparse.Namespace) -> int:
    async with connected(options) as hub:
        job = await job_called(hub, options.job)
        view = await job.cancel()
    if options.as_json:
        print(json_text(view))
    elif job.has_ended:
        print(f"Job {view.id} is {view.status}.")
    else:
        print(f"Job {view.id} is asked to end; `jtnt watch {view.id}` shows how it does.")
    return Exit.DONE


async def _order(options: argparse.Namespace, called: list[str], data: AnyData) -> int:
    """Order it from every machine, and follow it there. Nobody is ordered anything before all of them were found."""
    key = _own_key() if options.sign else None
    async with connected(options) as hub:
        machines = {machine.id: machine for machine in [await machine_called(hub, each) for each in called]}
        names = told_apart({machine.id: machine.name for machine in machines.values()})
        errands = [
            Errand(
                names[machine_id],
                partial(_created, hub, options, machine_id, data, key),
                _printer(options, names[machine_id], is_one=len(machines) == 1),
            )
            for machine_id in machines
        ]
        waits = duration_of(options.expires or COMMAND_EXPIRY_SECONDS)
        for machine in machines.values():
            if machine.status is AgentStatus.OFFLINE:
                why = machine.status_reason
                say(names[machine.id], f"it is away ({why}); the order waits {waits} for it (--expires)")
        code = await attend(errands, waits=options.wait)
    if not options.wait and not options.as_json:
        for errand in errands:
            if errand.job is not None:
                print(errand.job.id)
    return code


async def _created(
    hub: Operator, options: argparse.Namespace, agent_id: str, data: AnyData, key: OperatorKey | None
) -> Job:
    try:
        return await hub.run(
            agent_id,
            data,
            timeout_seconds=options.timeout,
            expires_in_seconds=options.expires,
            reason=options.reason,
            key=key,
        )
    except NotConnected as error:
        raise NotConnected(f"{error.message}; it may have been ordered all the same: `jtnt jobs` tells") from error


def _printer(options: argparse.Namespace, name: str, *, is_one: bool) -> Printer:
    if options.as_json:
        return JsonLines(sys.stdout.buffer, name)
    return own_streams(raw=options.raw) if is_one else NamedLines(sys.stdout.buffer, sys.stderr.buffer, name)


def _data(action: Action, command_data: Mapping[str, Any]) -> AnyData:
    try:
        return data_of(action, {name: value for name, value in command_data.items() if value is not None})
    except BadOrder as error:
        place = place_of(DATA + error.path.removeprefix("$."))
        raise Failed(f"this cannot be ordered: {error} ({place})", Exit.USAGE) from error


def _text_in(file: Path) -> str:
    try:
        script = file.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise Failed(f"the script {file} cannot be read: {error}", Exit.USAGE) from error
    if (size_bytes := len(script.encode())) > SCRIPT_MAX_BYTES:
        sizes = f"{size_bytes} bytes, and may have {SCRIPT_MAX_BYTES}"
        raise Failed(f"the script {file} has {sizes}: let it fetch what it needs", Exit.USAGE)
    return script


def _environment(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for name, separator, _ in pairs:
        if not separator:
            raise Failed(f"--env {name}: write NAME=VALUE", Exit.USAGE)
    return {name: value for name, _, value in pairs}


def _own_key() -> OperatorKey:
    path = config_folder() / KEY_NAME
    with leavable():
        passphrase = getpass.getpass("Passphrase of your key: ") if needs_passphrase(path) else None
    return OperatorKey.load(path, passphrase)
