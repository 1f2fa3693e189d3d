"""A new certificate in place of one that ran out: proven by the old key, approved by a person."""

from __future__ import annotations

from typing import Final

from agent_client.clock import Clock
from agent_client.errands.runner import ErrandFailed, Errands, outcome_of, succeeded
from agent_client.errands.shapes import AskRecovery, Fault, KeyMade, MakeKey, Recovered, RecoveryPending
from agent_client.logs import Log
from agent_client.renewal.pairs import Pairs
from agent_client.store.secure import StoreError
from agent_client.trust.document import TrustError
from agent_client.trust.keeper import TrustKeeper

FORBIDDEN_PAUSE_SECONDS: Final = 3600.0

_log = Log("recovery")


class Recovery:
    """A hub that forbids it is not asked again before an hour is over."""

    def __init__(
        self, pairs: Pairs, trust: TrustKeeper, errands: Errands, clock: Clock, agent_id: str, boot_id: str
    ) -> None:
        self._pairs = pairs
        self._trust = trust
        self._errands = errands
        self._agent_id = agent_id
        self._boot_id = boot_id
        self._clock = clock
        self._forbidden = ""
        self._asks_again_monotonic = 0.0

    async def ask(self, hub_url: str) -> str:
        """Ask the hub. Return the fingerprint of the key that waits for approval, empty once a next pair is on disk.

        The new key stays the same from one call to the next. Raises ErrandFailed or StoreError.
        """
        if self._forbidden and self._clock.monotonic() < self._asks_again_monotonic:
            raise ErrandFailed(Fault.FORBIDDEN, self._forbidden)
        try:
            return await self._asked(hub_url)
        except ErrandFailed as error:
            _log.warn("certificate not recovered", reason=str(error), fault=error.fault)
            if error.fault is Fault.FORBIDDEN:
                self._forbidden = str(error)
                self._asks_again_monotonic = self._clock.monotonic() + FORBIDDEN_PAUSE_SECONDS
            raise

    async def _asked(self, hub_url: str) -> str:
        self._pairs.promote()
        present = self._pairs.candidates(self._agent_id)[-1]
        chain_pem, key_pem = self._pairs.contents(present)
        made = await outcome_of(self._errands, MakeKey(key_pem=self._pairs.next_key()), KeyMade)
        self._pairs.begin(made.key_pem)
        errand = AskRecovery(
            fleet=self._trust.fleet(),
            hub_url=hub_url,
            anchors_pem=self._trust.anchors_pem(),
            agent_id=self._agent_id,
            boot_id=self._boot_id,
            chain_pem=chain_pem,
            key_pem=key_pem,
            next_key_pem=made.key_pem,
        )
        match await self._errands.run(errand):
            case RecoveryPending(fingerprint=fingerprint):
                _log.warn("certificate expired, a person must approve its recovery", fingerprint=fingerprint)
                return fingerprint
            case outcome:
                await self._take_up(succeeded(outcome, Recovered))
                return ""

    async def _take_up(self, outcome: Recovered) -> None:
        self._pairs.complete(outcome.certificate.encode())
        _log.info("certificate recovered")
        try:
            await self._trust.accept(outcome.trust)
        except (TrustError, StoreError) as error:
            _log.warn("trust document of the recovery not taken up", reason=str(error))
