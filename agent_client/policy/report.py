"""The machine's own policy in words."""

from __future__ import annotations

from pathlib import Path
from typing import Final, assert_never

from agent_client.policy.file import NoPolicy, PolicyState, Unusable
from agent_client.policy.terms import DEFAULT_INTERPRETER, Policy
from protocol.enumerations import Action

_ANY: Final = "any"
_NONE: Final = "none: {} is not among the actions"


def policy_words(state: PolicyState, path: Path) -> str:
    """Return one line for `jtnt-agent status`."""
    match state:
        case NoPolicy():
            return f"none in {path}: whatever the hub's signer signs may run"
        case Unusable(message):
            return f"NOT USABLE: {message}"
        case Policy():
            return f"in force: {path}"
        case _:
            assert_never(state)


def policy_lines(state: PolicyState, path: Path) -> list[str]:
    """Return what holds, for `jtnt-agent policy check`."""
    head = [f"policy        {policy_words(state, path)}"]
    return [*head, *_lines_of(state), *_warnings(state)] if isinstance(state, Policy) else head


def _lines_of(policy: Policy) -> list[str]:
    said = policy.said
    scripts = None if policy.scripts is None else [f"{digest} with {program}" for digest, program in policy.scripts]
    signed = "the hub's signer"
    if policy.needs_operator:
        people = "anybody the trust document names" if said.operator_keys is None else _listed(said.operator_keys)
        signed = f"the hub's signer and a person: {people}"
    return [
        f"actions       {_listed(policy.actions)}",
        f"programs      {_listed(said.programs) if _allows(policy, Action.EXEC) else _NONE.format(Action.EXEC)}",
        f"scripts       {_listed(scripts) if _allows(policy, Action.SCRIPT) else _NONE.format(Action.SCRIPT)}",
        f"environment   {_listed(policy.environment)}",
        f"run as        {_listed(said.run_as)}",
        f"hours         {_listed(said.windows)}",
        f"per hour      {_ANY if said.per_hour is None else said.per_hour}",
        f"signed by     {signed}",
    ]


def _warnings(policy: Policy) -> list[str]:
    """Return what its author may not have meant."""
    found: list[str] = []
    if policy.said.programs is not None and policy.scripts is None and _allows(policy, Action.SCRIPT):
        found.append("note          any script may run, so `programs` holds nobody back")
    if policy.scripts is not None and policy.said.programs is None and _allows(policy, Action.EXEC):
        found.append("note          any program may run, so `script_sha256` holds nobody back")
    if policy.said.programs is not None and not _allows(policy, Action.EXEC):
        found.append("note          `actions` lacks exec, so `programs` counts for nothing")
    if policy.scripts is not None and not _allows(policy, Action.SCRIPT):
        found.append("note          `actions` lacks script, so `script_sha256` counts for nothing")
    if policy.scripts is not None and all(program == DEFAULT_INTERPRETER for _, program in policy.scripts):
        found.append("note          scripts run with sh alone; write another interpreter behind the hash")
    return found


def _allows(policy: Policy, action: Action) -> bool:
    return policy.actions is None or action in policy.actions


def _listed(values: list[str] | frozenset[str] | frozenset[Action] | None) -> str:
    if values is None:
        return _ANY
    return ", ".join(sorted(str(value) for value in values)) or "none"
