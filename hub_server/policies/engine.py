"""Whether policies allow a job: a pure decision. What one of them refuses is refused."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from hub_server.policies.model import Allowed, Decision, Policy, Proposal, Refused
from protocol.actions import Order
from protocol.enumerations import Action
from protocol.policies import NEEDS, CommandRules, ListedScript, PolicyTerms

Rule = Callable[[PolicyTerms, Proposal], str | None]
"""Returns why the job is refused, as a sentence without its stop; None when it is not."""

_PROCESSES: Final = frozenset({Action.EXEC, Action.SCRIPT})
_SEPARATORS: Final = re.compile(r"[/\\]")


def decide(proposal: Proposal, tags: Collection[str], policies: Iterable[Policy]) -> Decision:
    """Return whether `policies` of one organisation let a machine with `tags` do what is proposed.

    Denials come before lists and lists before demands; of several policies the first by name is told.
    """
    holding = sorted((policy for policy in policies if policy.holds_for(tags)), key=lambda policy: policy.terms.name)
    for rule, objection_of in RULES:
        for policy in holding:
            objection = objection_of(policy.terms, proposal)
            if objection is not None:
                name = policy.terms.name
                message = f"the policy “{name}” refuses this ({rule}): {objection}"
                return Refused(name, rule, message, _place_of(rule, proposal.order.action))
    return Allowed()


def _turned_off(terms: PolicyTerms, proposal: Proposal) -> str | None:
    off = next((need for need in NEEDS[proposal.order.action] if need in terms.turned_off), None)
    return None if off is None else f"{off} are turned off on this machine"


def _denied_action(terms: PolicyTerms, proposal: Proposal) -> str | None:
    action = proposal.order.action
    return f"{action} may not be done on this machine" if action in terms.commands.denied_actions else None


def _denied_program(terms: PolicyTerms, proposal: Proposal) -> str | None:
    program = _program_of(proposal.order)
    if program is None:
        return None
    denied = next((one for one in terms.commands.denied_programs if _is_same_program(one, program)), None)
    return None if denied is None else f"{denied} may not run on this machine"


def _denied_script(terms: PolicyTerms, proposal: Proposal) -> str | None:
    is_denied = proposal.order.script_sha256 in terms.commands.denied_scripts
    return "this script may not run on this machine" if is_denied else None


def _allowed_action(terms: PolicyTerms, proposal: Proposal) -> str | None:
    allowed, action = terms.commands.allowed_actions, proposal.order.action
    if allowed is None or action in allowed:
        return None
    return f"{action} is not among what may be done on this machine ({_listed(allowed)})"


def _allowed_program(terms: PolicyTerms, proposal: Proposal) -> str | None:
    rules, order = terms.commands, proposal.order
    if order.action is not Action.EXEC or not _lists(rules) or order.argv[0] in (rules.allowed_programs or ()):
        return None
    return f"{order.argv[0]} is not among the programs that may run on this machine"


def _allowed_script(terms: PolicyTerms, proposal: Proposal) -> str | None:
    rules, order = terms.commands, proposal.order
    if order.action is not Action.SCRIPT or not _lists(rules):
        return None
    listed = [script for script in rules.allowed_scripts or () if script.sha256 == order.script_sha256]
    if not listed:
        return f"the script {order.script_sha256} is not among those that may run on this machine"
    return None if _has_interpreter(listed, order) else f"this script may run with {listed[0].interpreter} only"


def _allowed_environment(terms: PolicyTerms, proposal: Proposal) -> str | None:
    rules, order = terms.commands, proposal.order
    if not _lists(rules):
        return None
    extra = next((name for name in order.environment if name not in rules.allowed_environment), None)
    return None if extra is None else f"the variable {extra} may not be set where only listed programs run"


def _allowed_run_as(terms: PolicyTerms, proposal: Proposal) -> str | None:
    allowed, order = terms.commands.allowed_run_as, proposal.order
    if allowed is None or order.action not in _PROCESSES or order.run_as in allowed:
        return None
    return f"it has to run as one of: {_listed(allowed)}"


def _reason(terms: PolicyTerms, proposal: Proposal) -> str | None:
    is_missing = terms.commands.reason_required and not proposal.reason.strip()
    return "say why: a reason is required" if is_missing else None


def _second_signature(terms: PolicyTerms, proposal: Proposal) -> str | None:
    is_missing = terms.commands.second_signature_required and not proposal.is_countersigned
    return "it has to be signed with a person's key too, as `jtnt run --sign` does" if is_missing else None


RULES: Final[tuple[tuple[str, Rule], ...]] = (
    ("turnedOff", _turned_off),
    ("deniedActions", _denied_action),
    ("deniedPrograms", _denied_program),
    ("deniedScripts", _denied_script),
    ("allowedActions", _allowed_action),
    ("allowedPrograms", _allowed_program),
    ("allowedScripts", _allowed_script),
    ("allowedEnvironment", _allowed_environment),
    ("allowedRunAs", _allowed_run_as),
    ("reasonRequired", _reason),
    ("secondSignatureRequired", _second_signature),
)

_PROGRAM: Final[Mapping[Action, str]] = {
    Action.EXEC: "$.commandData.argv[0]",
    Action.SCRIPT: "$.commandData.interpreter",
}
_PLACES: Final[Mapping[str, str]] = {
    "deniedScripts": "$.commandData.script",
    "allowedScripts": "$.commandData.script",
    "allowedEnvironment": "$.commandData.environment",
    "allowedRunAs": "$.commandData.runAs",
    "reasonRequired": "$.reason",
    "secondSignatureRequired": "$.signature",
}
_ACTION: Final = "$.commandType"


def _place_of(rule: str, action: Action) -> str:
    """Return the request's field that has to change before `rule` lets it through."""
    if rule in {"deniedPrograms", "allowedPrograms"}:
        return _PROGRAM[action]
    return _PLACES.get(rule, _ACTION)


def _lists(rules: CommandRules) -> bool:
    """Tell whether only listed programs and scripts may run."""
    return rules.allowed_programs is not None or rules.allowed_scripts is not None


def _program_of(order: Order) -> str | None:
    """Return what would be started: of a script its interpreter, None for the agent's own actions."""
    return order.argv[0] if order.action is Action.EXEC else order.interpreter


def _is_same_program(denied: str, program: str) -> bool:
    """Compare whole paths where both have one, else file names; on any system, so in any case and without `.exe`."""
    one, other = _normalised(denied), _normalised(program)
    if "/" in one and "/" in other:
        return one == other
    return one.rpartition("/")[2] == other.rpartition("/")[2]


def _normalised(program: str) -> str:
    return posixpath.normpath(_SEPARATORS.sub("/", program)).casefold().removesuffix(".exe")


def _has_interpreter(listed: Iterable[ListedScript], order: Order) -> bool:
    return any(script.interpreter == order.interpreter for script in listed)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"
