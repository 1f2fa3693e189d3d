"""A policy as it is stored, what is asked of it, and what its checks found."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from msgspec import Struct

from protocol.actions import Order
from protocol.enumerations import AlertSeverity
from protocol.policies import Check, CheckState, Fact, PolicyTerms

FOUND_MAX_CHARS: Final = 256


class Policy(Struct, frozen=True, kw_only=True):
    """`version` rises by one with every change."""

    id: str
    organisation_id: str
    version: int
    terms: PolicyTerms
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str

    def holds_for(self, tags: Collection[str]) -> bool:
        """Tell whether a machine with these tags is subject to it."""
        terms = self.terms
        return terms.enabled and (not terms.tags or any(tag in tags for tag in terms.tags))


class Proposal(Struct, frozen=True, kw_only=True):
    """A job before it is signed. `is_countersigned`: a person's key has signed it too."""

    order: Order
    reason: str
    is_countersigned: bool


class Allowed(Struct, frozen=True):
    pass


class Refused(Struct, frozen=True):
    """`rule`: the field of the policy's terms that refuses; `path`: the request's field that it is about."""

    policy: str
    rule: str
    message: str
    path: str


Decision = Allowed | Refused


class Asked(Struct, frozen=True):
    """One fact of one machine; `subject` as in Check."""

    fact: Fact
    subject: str


Value = str | float | bool
Reading = tuple[Value, ...] | None
"""What a machine has of one fact: None is not known, an empty tuple that there is none of this name."""


class Verdict(Struct, frozen=True):
    """`found` as text, None when nothing is known."""

    state: CheckState
    found: str | None


class PlannedCheck(Struct, frozen=True):
    policy_id: str
    check: Check


class Plan(Struct, frozen=True):
    """All checks of a machine, and which facts of its inventory they ask for."""

    checks: tuple[PlannedCheck, ...]
    inventory: tuple[Asked, ...]


class ResultKey(Struct, frozen=True, order=True):
    agent_id: str
    policy_id: str
    check: str


class Result(Struct, frozen=True, kw_only=True):
    """What a check found on a machine. `since`: the state is this one. `judged_by`: the hub that knows the machine."""

    organisation_id: str
    key: ResultKey
    severity: AlertSeverity
    verdict: Verdict
    since: datetime
    judged_by: str = ""
