"""Renewal over the socket: when it is due, and a new pair from the hub, whole on disk before it is shown to anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import ClassVar, Final, Literal

import msgspec

from agent_client.certificate import CertificateFacts
from agent_client.clock import Clock
from agent_client.errands.runner import ErrandFailed, Errands, outcome_of
from agent_client.errands.shapes import CertificateChecked, CheckCertificate, Fault, KeyMade, MakeKey
from agent_client.errors import AgentError
from agent_client.logs import Log
from agent_client.paths import CERTIFICATE_TERMS, Places
from agent_client.renewal.pairs import Pair, Pairs
from agent_client.renewal.schedule import IssuerWanted, leave_at_ms, renewal_at_ms, retry_seconds
from agent_client.store.secure import SecureStore, StoreError
from agent_client.trust.keeper import TrustKeeper
from agent_client.turns import Turn
from protocol.desired import CertificateTerms

# The clock on the wall may jump: what is due is looked at anew at least this often.
LOOK_SECONDS: Final = 600.0

Ask = Callable[[str], Awaitable[str]]
RenewalState = Literal["scheduled", "asking", "changing", "failed", "awaiting_approval", "forbidden"]

_wanted_decoder: Final = msgspec.json.Decoder(IssuerWanted)
_log = Log("renewal")


class RenewalFailed(AgentError):
    """No new pair came about; the one in use stays. `is_final`: asking again with the same key would not help."""

    code: ClassVar[str] = "renewal"

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Renewal:
    """`state` and `problem` are for the status; `facts` are those of the certificate that was welcomed last."""

    def __init__(
        self, places: Places, pairs: Pairs, trust: TrustKeeper, errands: Errands, clock: Clock, turn: Turn
    ) -> None:
        self.state: RenewalState = "scheduled"
        self.problem = ""
        self.facts: CertificateFacts | None = None
        self._pairs = pairs
        self._trust = trust
        self._errands = errands
        self._clock = clock
        self._turn = turn
        self._agent_id = turn.agent_id
        self._store = SecureStore(places.state)
        self._wanted = self._stored_wanted()
        self._wanted_changed = asyncio.Event()
        self._retry_monotonic = 0.0

    def want_issuer(self, terms: CertificateTerms) -> None:
        """Leave the present issuer, if it is another, at this certificate's moment of the terms. Raises StoreError."""
        now_ms = self._clock.now_ms()
        leave = leave_at_ms(self.facts, now_ms, terms.over_sec) if self.facts else now_ms
        wanted = IssuerWanted(issuer_sha256=terms.issuer_sha256, leave_at_ms=leave)
        with self._turn.taken():
            self._store.save(CERTIFICATE_TERMS, msgspec.json.encode(wanted))
        self._wanted = wanted
        self._wanted_changed.set()

    def renew_at_ms(self) -> int | None:
        """Return when the certificate in use is to be renewed, None before one was welcomed."""
        return renewal_at_ms(self.facts, self._wanted) if self.facts else None

    async def due(self, facts: CertificateFacts) -> None:
        """Wait until the certificate is to be renewed, and no earlier than a pause after the last try."""
        while True:
            self._wanted_changed.clear()
            by_clock = (renewal_at_ms(facts, self._wanted) - self._clock.now_ms()) / 1000
            seconds = max(by_clock, self._retry_monotonic - self._clock.monotonic())
            if seconds <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, LOOK_SECONDS)):
                    await self._wanted_changed.wait()

    async def obtain(self, ask: Ask) -> Pair:
        """Return a next pair, whole on disk: one from an earlier try, or a new one that `ask` got certified.

        Raises RenewalFailed or StoreError.
        """
        self._note("asking", "")
        best = self._pairs.candidates(self._agent_id)[0]
        if best.is_next:
            return best
        try:
            made = await outcome_of(self._errands, MakeKey(key_pem=self._pairs.next_key()), KeyMade)
            self._pairs.begin(made.key_pem)
            await self._complete(made, await ask(made.csr_pem))
        except ErrandFailed as error:
            raise RenewalFailed(str(error), is_final=error.fault is Fault.UNBELIEVABLE) from error
        best = self._pairs.candidates(self._agent_id)[0]
        if not best.is_next:
            raise RenewalFailed("the new pair cannot be read back")
        return best

    def changing(self) -> None:
        """The next pair is being shown to the hub."""
        self._note("changing", "")

    def welcomed(self, pair: Pair) -> None:
        """The hub took `pair`: it becomes the one in use, and the other is forgotten."""
        self.facts = pair.facts
        self._note("scheduled", "")
        try:
            if pair.is_next:
                self._pairs.promote()
                _log.info("certificate changed", not_after_ms=pair.facts.not_after_ms)
                self._pause_after_try(pair.facts)
            elif self._pairs.candidates(self._agent_id)[0].is_next:
                self._pairs.clear_next()
        except StoreError as error:  # both pairs are on disk, and the newer is tried first
            _log.error("certificate files not in order", reason=str(error))

    def failed(self, facts: CertificateFacts, reason: str, *, is_final: bool) -> None:
        """Take note of a try that brought nothing; `facts` are those of the certificate that stays in use."""
        self._note("failed", reason)
        self._pause_after_try(facts)
        _log.warn("certificate not renewed", reason=reason, not_after_ms=facts.not_after_ms)
        if is_final:
            with suppress(StoreError):
                self._pairs.clear_next()

    def awaits_approval(self, fingerprint: str) -> None:
        self._note("awaiting_approval", f"a person must approve key {fingerprint} on the hub")

    def forbidden(self, reason: str) -> None:
        """The hub turned a recovery down, for `reason` in its own words."""
        self._note("forbidden", reason)

    async def _complete(self, made: KeyMade, chain_pem: str) -> None:
        errand = CheckCertificate(
            fleet=self._trust.fleet(), agent_id=self._agent_id, chain_pem=chain_pem, key_pem=made.key_pem
        )
        checked = await outcome_of(self._errands, errand, CertificateChecked)
        self._pairs.complete(checked.certificate.encode())

    def _pause_after_try(self, facts: CertificateFacts) -> None:
        self._retry_monotonic = self._clock.monotonic() + retry_seconds(facts, self._clock.now_ms())

    def _note(self, state: RenewalState, problem: str) -> None:
        self.state, self.problem = state, problem

    def _stored_wanted(self) -> IssuerWanted | None:
        if not self._store.exists(CERTIFICATE_TERMS):
            return None
        try:
            return _wanted_decoder.decode(self._store.load(CERTIFICATE_TERMS))
        except (StoreError, msgspec.MsgspecError, UnicodeError) as error:
            _log.warn("terms of the certificate not usable; the hub offers them again", reason=str(error))
            return None
