"""Does the machine's own policy allow an order? A decision without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

from msgspec import Struct

from agent_client.execution.decision import Denied, Rule
from agent_client.policy.file import NoPolicy, PolicyState, Unusable
from agent_client.policy.terms import DEFAULT_INTERPRETER, Policy
from agent_client.policy.windows import DAYS
from protocol.enumerations import Action
from protocol.envelope import JobEnvelope

Finder = Callable[[str, Mapping[str, str]], str | None]
"""Returns where a program of this name is found by a job with this environment, None where it is not."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def nothing_found(_program: str, _environment: Mapping[str, str]) -> None:
    return None


class Circumstances(Struct, frozen=True, kw_only=True):
    """What the policy is held against.

    `local_now`: the machine's local time. `accepted_last_hour`: jobs of the last hour, by the journal. `own_user`: whom
    a job without `run_as` runs as.
    """

    state: PolicyState = NoPolicy()
    local_now: datetime = _EPOCH
    accepted_last_hour: int = 0
    own_user: str = ""
    find_program: Finder = nothing_found


def policy_refusal(envelope: JobEnvelope, around: Circumstances) -> Denied | None:
    """Return what of the policy stands against `envelope`, None when nothing does."""
    match around.state:
        case NoPolicy():
            return None
        case Unusable(message):
            return Denied(Rule.POLICY, message)
        case Policy() as policy:
            return (
                _action_refusal(envelope, policy)
                or _content_refusal(envelope, policy, around)
                or _environment_refusal(envelope, policy)
                or _user_refusal(envelope, policy, around)
                or _time_refusal(policy, around)
            )


def operator_line(policy: Policy) -> str:
    """Return the line that asks for a person's signature, for messages."""
    counted = "" if policy.said.operator_keys is None else f" by one of {_listed(policy.said.operator_keys)}"
    return f"{_line(policy, 'signatures')} wants a second signature{counted}"


def _action_refusal(envelope: JobEnvelope, policy: Policy) -> Denied | None:
    if policy.actions is None or envelope.action in policy.actions:
        return None
    what = f"allows {_listed(sorted(policy.actions))}, not {envelope.action}"
    return Denied(Rule.POLICY_ACTION, f"{_line(policy, 'actions')} {what}")


def _content_refusal(envelope: JobEnvelope, policy: Policy, around: Circumstances) -> Denied | None:
    match envelope.action:
        case Action.EXEC if policy.said.programs is not None:
            return _program_refusal(envelope, policy, policy.said.programs, around.find_program)
        case Action.SCRIPT if policy.scripts is not None:
            asked = (envelope.script_sha256 or "", envelope.interpreter or DEFAULT_INTERPRETER)
            if asked in policy.scripts:
                return None
            what = f"does not name the script {asked[0]} with the interpreter {asked[1]}"
            return Denied(Rule.POLICY_SCRIPT, f"{_line(policy, 'script_sha256')} {what}")
        case _:
            return None


def _program_refusal(envelope: JobEnvelope, policy: Policy, programs: list[str], find: Finder) -> Denied | None:
    named = envelope.argv[0] if envelope.argv else ""
    path: str | None = named
    if not PurePath(named).is_absolute():
        path = find(named, envelope.environment) if PurePath(named).name == named else None
    if path in programs:
        return None
    what = f"allows {_listed(programs)}, not {path or named!r}"
    return Denied(Rule.POLICY_PROGRAM, f"{_line(policy, 'programs')} {what}")


def _environment_refusal(envelope: JobEnvelope, policy: Policy) -> Denied | None:
    if policy.environment is None:
        return None
    others = sorted(set(envelope.environment) - policy.environment)
    if not others:
        return None
    what = f"lets orders set {_listed(sorted(policy.environment))}, not {others[0]!r}"
    return Denied(Rule.POLICY_ENVIRONMENT, f"{_line(policy, 'environment')} {what}")


def _user_refusal(envelope: JobEnvelope, policy: Policy, around: Circumstances) -> Denied | None:
    user = envelope.run_as or around.own_user
    if policy.said.run_as is None or user in policy.said.run_as:
        return None
    what = f"allows the users {_listed(policy.said.run_as)}, not {user or 'the own'!r}"
    return Denied(Rule.POLICY_RUN_AS, f"{_line(policy, 'run_as')} {what}")


def _time_refusal(policy: Policy, around: Circumstances) -> Denied | None:
    now = around.local_now
    if policy.said.windows is not None and not any(window.holds(now) for window in policy.windows):
        what = f"allows {_listed(policy.said.windows)}; here it is {DAYS[now.weekday()]} {now:%H:%M}"
        return Denied(Rule.POLICY_WINDOW, f"{_line(policy, 'windows')} {what}")
    if policy.said.per_hour is not None and around.accepted_last_hour >= policy.said.per_hour:
        what = f"allows {policy.said.per_hour} jobs an hour, and {around.accepted_last_hour} were accepted in the last"
        return Denied(Rule.POLICY_RATE, f"{_line(policy, 'per_hour')} {what}")
    return None


def _line(policy: Policy, key: str) -> str:
    return f"jobs.{key} of {policy.path or 'the policy'}"


def _listed(values: list[str]) -> str:
    return ", ".join(values[:8]) + (f" and {len(values) - 8} more" if len(values) > 8 else "") if values else "none"
