"""What the agent can mend by itself when a hub and it do not take each other: a stale trust document, a certificate
that expired or whose authority was revoked. The last two need a person's consent on the hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent_client.clock import Clock
from agent_client.config import Config
from agent_client.errands.runner import ErrandFailed
from agent_client.errands.shapes import Fault
from agent_client.logs import Log
from agent_client.renewal.pairs import Pair
from agent_client.renewal.papers import Papers
from agent_client.transport.endings import (
    AwaitingApproval,
    CertificateRefused,
    Closed,
    Ending,
    FilesUnusable,
    HubNotTrusted,
    Outdated,
    PapersRenewed,
    RecoveryForbidden,
    Unanswered,
    summary_of,
    turns_down_certificate,
)
from agent_client.trust.document import agents_issuers

_UNANSWERED_A_FETCH: Final = 4

_log = Log("connection")


class Mending:
    def __init__(self, papers: Papers, clock: Clock) -> None:
        self._papers = papers
        self._clock = clock
        self._turned_down = 0

    async def after(self, ending: Ending, config: Config, tried: Sequence[Pair]) -> Ending:
        """Return how an attempt ended once what could be done about it was done. Raises StoreError or TrustError."""
        if isinstance(ending, HubNotTrusted):
            is_renewed = await self._papers.trust.fetch(config.websocket_url)
            return PapersRenewed("trust document") if is_renewed else ending
        if isinstance(ending, FilesUnusable) or not turns_down_certificate(ending):
            self._turned_down = 0
            return ending
        self._turned_down += 1
        reason = summary_of(ending)[1]
        if _calls_it_over(reason):
            return await self._recovered(config, reason)
        if await self._is_authority_revoked(ending, config, tried):
            return await self._recovered(config, f"{reason}; its authority was revoked")
        return await self._recovered(config, f"{reason}; it has expired") if self._are_expired(tried) else ending

    def after_session(self, ending: Ending, agent_id: str) -> Ending:
        """Return how a session that was up ended, where its certificate was at fault. Raises StoreError."""
        if not isinstance(ending, Closed) or not turns_down_certificate(ending):
            return ending
        pairs = self._papers.pairs.candidates(agent_id)
        if any(pair.facts != self._papers.renewal.facts for pair in pairs):
            return Outdated(ending.code, ending.reason, "the hub takes this certificate no more; another is tried next")
        if _calls_it_over(ending.reason) or self._are_expired(pairs):
            return Outdated(ending.code, ending.reason, "this agent's certificate ran out; it asks for a new one next")
        return ending

    async def _recovered(self, config: Config, reason: str) -> Ending:
        try:
            fingerprint = await self._papers.recovery.ask(config.websocket_url)
        except ErrandFailed as error:
            if error.fault is Fault.FORBIDDEN:
                self._papers.renewal.forbidden(str(error))
                return RecoveryForbidden(str(error))
            return CertificateRefused(f"{reason}; its recovery failed: {error}")
        if not fingerprint:
            return PapersRenewed("certificate")
        self._papers.renewal.awaits_approval(fingerprint)
        return AwaitingApproval(fingerprint)

    async def _is_authority_revoked(self, ending: Ending, config: Config, pairs: Sequence[Pair]) -> bool:
        """Tell whether the trust document names none of the authorities that issued what was tried.

        A newer one is asked for now and then: a hub that hangs up is as a rule only on its way down.
        """
        if self._is_unnamed(pairs):
            return True
        if isinstance(ending, Unanswered) and self._turned_down % _UNANSWERED_A_FETCH:
            return False
        return await self._papers.trust.fetch(config.websocket_url) and self._is_unnamed(pairs)

    def _is_unnamed(self, pairs: Sequence[Pair]) -> bool:
        named = agents_issuers(self._papers.trust.document())
        return all(pair.facts.issuer_sha256 not in named for pair in pairs)

    def _are_expired(self, pairs: Sequence[Pair]) -> bool:
        now_ms = self._clock.now_ms()
        return all(pair.facts.not_after_ms <= now_ms for pair in pairs)


def _calls_it_over(reason: str) -> bool:
    """Return whether the certificate has expired by the hub's clock."""
    return "expired" in reason
