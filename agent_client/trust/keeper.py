"""The trust document in use: replaced only by a newer one that the fleet's root has signed."""

from __future__ import annotations

import asyncio

from agent_client.errands.runner import ErrandFailed, Errands, outcome_of
from agent_client.errands.shapes import CheckTrust, FetchTrust, Fleet, TrustChecked
from agent_client.logs import Log
from agent_client.paths import CA_BUNDLE, Places
from agent_client.store.secure import SecureStore, StoreError
from agent_client.trust.document import TrustError, load_trust, parse_trust, save_trust, server_anchors
from agent_client.turns import Turn
from protocol.envelope import SignedTrust, TrustDocument

_log = Log("trust")


class TrustKeeper:
    """Signatures are checked by errands, against the root of the CA bundle, which nothing but enrollment writes."""

    def __init__(self, places: Places, errands: Errands, trust_domain: str, turn: Turn) -> None:
        self._turn = turn
        self._places = places
        self._errands = errands
        self._trust_domain = trust_domain
        self._stored: tuple[SignedTrust, TrustDocument] | None = None
        self._one_at_a_time = asyncio.Lock()

    def document(self) -> TrustDocument:
        """Return the document in use, read at the first call. Raises StoreError or TrustError."""
        return self._in_use()[1]

    def anchors_pem(self) -> str:
        """Return the authorities a hub's certificate may come from. Raises StoreError or TrustError."""
        return server_anchors(self.document())

    def version(self) -> int | None:
        """Return the version in use, None where there is no readable document."""
        try:
            return self.document().version
        except (StoreError, TrustError):
            return None

    def fleet(self) -> Fleet:
        """Return what errands check against. Raises StoreError."""
        bundle = SecureStore(self._places.certs).load(CA_BUNDLE)
        return Fleet(ca_bundle_pem=bundle.decode("ascii", "replace"), trust_domain=self._trust_domain)

    async def accept(self, offered: SignedTrust) -> None:
        """Take up `offered` unless it is the one in use. Raises TrustError or StoreError; then nothing has changed."""
        async with self._one_at_a_time:
            if offered.document == self._in_use()[0].document:
                return
            self._require_newer(offered)
            try:
                await outcome_of(self._errands, CheckTrust(fleet=self.fleet(), trust=offered), TrustChecked)
            except ErrandFailed as error:
                raise TrustError(str(error)) from error
            self._replace(offered)

    async def fetch(self, hub_url: str) -> bool:
        """Ask whoever answers at the hub's address for a newer document; return whether one was taken up.

        For when the hub's own certificate is not trusted: its authority may have been replaced while this agent was
        away. Whoever answers is believed nothing but what the root has signed. Raises StoreError or TrustError.
        """
        async with self._one_at_a_time:
            try:
                fetched = await outcome_of(self._errands, FetchTrust(fleet=self.fleet(), hub_url=hub_url), TrustChecked)
            except ErrandFailed as error:
                _log.warn("no trust document from where the hub should be", reason=str(error), fault=error.fault)
                return False
            if parse_trust(fetched.trust).version <= self.document().version:
                return False
            self._replace(fetched.trust)
            return True

    def _in_use(self) -> tuple[SignedTrust, TrustDocument]:
        if self._stored is None:
            self._stored = load_trust(self._places)
        return self._stored

    def _require_newer(self, offered: SignedTrust) -> None:
        version, current = parse_trust(offered).version, self.document().version
        if version <= current:
            raise TrustError(f"the trust document never goes back: {version} was offered, {current} is applied")

    def _replace(self, verified: SignedTrust) -> None:
        with self._turn.taken():
            save_trust(self._places, verified)
        self._stored = (verified, parse_trust(verified))
        _log.info("trust document taken up", version=self._stored[1].version)
