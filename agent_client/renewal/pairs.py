"""Key and certificate on disk, and how the next pair takes the place of the present one.

    certs/client.key, client.crt        the pair in use
    certs/next/client.key               a new key, before the hub is asked
    certs/next/client.crt               its certificate; from here on both pairs are whole

Once the hub has welcomed the next pair it is promoted: the key is moved up, then the certificate. Between those two the
pair in use is `client.key` with `next/client.crt`, which every reader here knows. So at each moment, also after a crash
or a power cut, there is a whole pair; and where there are two, the newer is tried first and the older after it, because
nobody can know from the files alone which of them the hub saw last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_client.certificate import CertificateFacts, CertificateUnreadable, chain_of, facts_of
from agent_client.logs import Log
from agent_client.paths import CLIENT_CERTIFICATE, CLIENT_KEY, Places
from agent_client.store.secure import SecureStore, StoreError
from agent_client.turns import Turn

NEXT: Final = "next"

_log = Log("certificates")


class Pair(Struct, frozen=True):
    """Paths of a certificate and its key, both verified to be ours alone, and what the certificate says."""

    certificate: Path
    key: Path
    facts: CertificateFacts
    is_next: bool = False


class Pairs:
    """Reading changes nothing, so any process may. What writes takes the turn, and raises StoreError."""

    def __init__(self, places: Places, turn: Turn | None = None) -> None:
        """`turn`: the one to take before a change, where only one agent may make it."""
        self._turn = turn or Turn(places)
        self._present = SecureStore(places.certs)
        self._next = SecureStore(places.certs / NEXT)

    def candidates(self, agent_id: str) -> Sequence[Pair]:
        """Return the pairs to try, best first. Raises StoreError when there is none, or one is open to others."""
        if self._is_half_promoted() and (pair := self._read(self._next, self._present, agent_id)):
            return (pair,)
        if self._has_whole_next() and (pair := self._read(self._next, self._next, agent_id)):
            return (pair, self._present_pair())
        return (self._present_pair(),)

    def contents(self, pair: Pair) -> tuple[str, str]:
        """Return the chain and the key of a pair, both as PEM. Raises StoreError."""
        certificate = SecureStore(pair.certificate.parent).load(pair.certificate.name)
        key = SecureStore(pair.key.parent).load(pair.key.name)
        return chain_of(certificate), key.decode("ascii", "replace")

    def next_key(self) -> str:
        """Return the key of a renewal that has begun, as PEM; empty where there is none."""
        return self._next.load(CLIENT_KEY).decode("ascii", "replace") if self._next.exists(CLIENT_KEY) else ""

    def begin(self, key_pem: str) -> None:
        """Keep a new key before anybody is asked to certify it."""
        with self._turn.taken():
            self._finish_promotion()
            self._next.delete(CLIENT_CERTIFICATE)
            self._next.save(CLIENT_KEY, key_pem.encode())

    def complete(self, certificate: bytes) -> None:
        """Keep the certificate of the next key."""
        with self._turn.taken():
            self._next.save(CLIENT_CERTIFICATE, certificate)

    def promote(self) -> None:
        """Make the next pair, where there is a whole one, the pair in use."""
        with self._turn.taken():
            if self._has_whole_next():
                self._next.hand_over(CLIENT_KEY, self._present)
            self._finish_promotion()

    def finish_promotion(self) -> None:
        """Do what a crash kept a promotion from."""
        with self._turn.taken():
            self._finish_promotion()

    def clear_next(self) -> None:
        """Forget a next pair, whole or begun."""
        with self._turn.taken():
            self.forget_next()

    def forget_next(self) -> None:
        """Do as `clear_next`, for a caller that has the turn."""
        self._next.delete(CLIENT_CERTIFICATE)
        self._next.delete(CLIENT_KEY)

    def _finish_promotion(self) -> None:
        if self._is_half_promoted():
            self._next.hand_over(CLIENT_CERTIFICATE, self._present)

    def _has_whole_next(self) -> bool:
        return self._next.exists(CLIENT_KEY) and self._next.exists(CLIENT_CERTIFICATE)

    def _is_half_promoted(self) -> bool:
        return self._next.exists(CLIENT_CERTIFICATE) and not self._next.exists(CLIENT_KEY)

    def _present_pair(self) -> Pair:
        key = self._present.verified(CLIENT_KEY)
        try:
            facts = facts_of(self._present.load(CLIENT_CERTIFICATE))
        except CertificateUnreadable as error:
            raise StoreError(f"{self._present.directory / CLIENT_CERTIFICATE}: {error}") from error
        return Pair(self._present.directory / CLIENT_CERTIFICATE, key, facts)

    def _read(self, certificates: SecureStore, keys: SecureStore, agent_id: str) -> Pair | None:
        """Return a pair, None when it cannot be used or was made for another identity than this agent's."""
        try:
            facts = facts_of(certificates.load(CLIENT_CERTIFICATE))
            pair = Pair(certificates.verified(CLIENT_CERTIFICATE), keys.verified(CLIENT_KEY), facts, is_next=True)
        except (CertificateUnreadable, StoreError) as error:
            _log.warn("next certificate not usable", reason=str(error))
            return None
        if facts.identity.agent_id != agent_id:
            _log.warn("next certificate is for another identity", agent=facts.identity.agent_id)
            return None
        return pair
