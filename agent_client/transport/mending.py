"""What the agent can mend by itself when a hub and it do not take each other: a stale trust document, an expired
certificate. The second needs a person's consent on the hub.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent_client.clock import Clock
from agent_client.config import Config
from agent_client.errands.runner import ErrandFailed
from agent_client.logs import Log
from agent_client.renewal.pairs import Pair
from agent_client.renewal.papers import Papers
from agent_client.transport.endings import (
    AwaitingApproval,
    CertificateRefused,
    Ending,
    FilesUnusable,
    HubNotTrusted,
    PapersRenewed,
    summary_of,
    turns_down_certificate,
)

_log = Log("connection")


class Mending:
    def __init__(self, papers: Papers, clock: Clock) -> None:
        self._papers = papers
        self._clock = clock

    async def after(self, ending: Ending, config: Config, tried: Sequence[Pair]) -> Ending:
        """Return how an attempt ended once what could be done about it was done. Raises StoreError or TrustError."""
        if isinstance(ending, HubNotTrusted):
            is_renewed = await self._papers.trust.fetch(config.websocket_url)
            return PapersRenewed("trust document") if is_renewed else ending
        if isinstance(ending, FilesUnusable) or not turns_down_certificate(ending):
            return ending
        reason = summary_of(ending)[1]
        if "expired" in reason:  # by the hub's clock
            return await self._recovered(config, reason)
        return await self._recovered(config, f"{reason}; it has expired") if self._are_expired(tried) else ending

    async def _recovered(self, config: Config, reason: str) -> Ending:
        try:
            fingerprint = await self._papers.recovery.ask(config.websocket_url)
        except ErrandFailed as error:
            _log.warn("recovery of the expired certificate failed", reason=str(error), fault=error.fault)
            return CertificateRefused(f"{reason}; its recovery failed: {error}")
        if not fingerprint:
            return PapersRenewed("certificate")
        self._papers.renewal.awaits_approval(fingerprint)
        return AwaitingApproval(fingerprint)

    def _are_expired(self, pairs: Sequence[Pair]) -> bool:
        now_ms = self._clock.now_ms()
        return all(pair.facts.not_after_ms <= now_ms for pair in pairs)
