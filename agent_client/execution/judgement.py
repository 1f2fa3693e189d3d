"""Orders judged by what holds on this machine at the moment: when they come, and again when their turn comes."""

from __future__ import annotations

from collections.abc import Callable

from agent_client.errors import AgentError
from agent_client.execution.journal import Journal
from agent_client.execution.orders import refusal_of
from agent_client.execution.terms import Terms
from agent_client.execution.verification import (
    Denied,
    Grounds,
    Permitted,
    Rule,
    SignatureCheck,
    judge,
    objection_to,
)
from agent_client.policy.surroundings import circumstances
from protocol.frames import Command


class Judge:
    """Its answers raise DatabaseError where the journal cannot be read."""

    def __init__(
        self, journal: Journal, terms: Callable[[], Terms], is_signed_by: SignatureCheck | None = None
    ) -> None:
        """`terms` may raise AgentError: then nothing is permitted."""
        self._journal = journal
        self._terms = terms
        self._is_signed_by = is_signed_by or _loaded_at_first_use

    def decide(self, command: Command) -> Permitted | Denied:
        grounds = self._grounds(self._journal.accepted_last_hour)
        if isinstance(grounds, Denied):
            return grounds
        decision = judge(command, grounds)
        return decision if isinstance(decision, Denied) else refusal_of(decision.envelope) or decision

    def objection(self, order: Permitted) -> Denied | None:
        """Return what stands by now against an order that has waited; it was counted in its hour when it came."""
        grounds = self._grounds(_none)
        return grounds if isinstance(grounds, Denied) else objection_to(order, grounds)

    def _grounds(self, accepted_last_hour: Callable[[], int]) -> Grounds | Denied:
        """Return what a decision rests on now, or why there can be none."""
        try:
            terms = self._terms()
        except AgentError as error:
            return Denied(Rule.TRUST, str(error))
        now_ms = self._journal.effective_now_ms()
        return Grounds(
            audience=terms.audience,
            trust=terms.trust,
            is_signed_by=self._is_signed_by,
            now_ms=now_ms,
            allowed_actions=terms.allowed_actions,
            not_before_ms=self._journal.not_before_ms,
            around=circumstances(terms.policy, now_ms=now_ms, accepted_last_hour=accepted_last_hour),
        )


def _none() -> int:
    return 0


def _loaded_at_first_use(public_key: bytes, signature: bytes, message: bytes) -> bool:
    # Imported here: most agents seldom run a job, and the import costs megabytes of every machine's memory.
    from agent_client.trust.signature import is_signed_by  # noqa: PLC0415

    return is_signed_by(public_key, signature, message)
