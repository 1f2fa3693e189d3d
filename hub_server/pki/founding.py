"""How an authority begins: made anew, or taken over from the files of an earlier version."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.clock import from_milliseconds
from hub_server.pki import certificates
from hub_server.pki.archive import Archive, Record
from hub_server.pki.certificates import Use
from hub_server.pki.engine import Lifetimes, Term
from hub_server.pki.files import EarlierKeys
from hub_server.pki.keyring import Keyring, ca_record, issuing_authorities, key_record, signing_keys
from hub_server.pki.trust import document_of, next_document, signed
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.vault import Vault
from protocol.enumerations import AuthorityUse
from protocol.envelope import SignedTrust, TrustDocument

ACCESS_LIFETIME: Final = timedelta(days=3650)


class Founding:
    def __init__(
        self, *, archive: Archive, vault: Vault, trust_domain: str, now: datetime, lifetimes: Lifetimes
    ) -> None:
        self._archive = archive
        self._vault = vault
        self._trust_domain = trust_domain
        self._now = now
        self._lifetimes = lifetimes

    async def found(self, connection: AsyncConnection, directory: Path, earlier: EarlierKeys) -> Keyring:
        """Write an authority of what `earlier` has and new keys for the rest, within the caller's transaction.

        Raises KeysRefused when the parts of `earlier` do not belong together.
        """
        try:
            records, versions = self._parts(earlier)
            keyrings = [Keyring(records, trust, self._vault) for _, trust in versions]
            for record in records:
                await self._archive.add(connection, record)
            for document, trust in versions:
                await self._archive.add_trust(connection, document.version, trust, self._now)
            agents = next(record for record in records if record.use is AuthorityUse.AGENTS)
            await self._archive.adopt_certificates(connection, agents.id)
            return keyrings[-1]
        except (KeysRefused, ValueError) as error:
            if earlier == EarlierKeys():
                raise
            raise KeysRefused(
                f"the keys in {directory} do not belong together ({error}); restore the folder from one backup"
            ) from error

    def _parts(self, earlier: EarlierKeys) -> tuple[list[Record], list[tuple[TrustDocument, SignedTrust]]]:
        before = None if earlier.trust is None else document_of(earlier.trust)
        root, root_key = self._root(earlier)
        records = [
            ca_record(AuthorityUse.ROOT, root, root_key, self._vault, root.not_valid_before_utc),
            self._issuing("agents", AuthorityUse.AGENTS, earlier, root, root_key),
            self._issuing("servers", AuthorityUse.SERVERS, earlier, root, root_key),
            self._jobs(earlier.jobs_key, before),
            self._key(AuthorityUse.AUDIT, None, self._lifetimes.signer),
            self._key(AuthorityUse.ACCESS, earlier.access_key, ACCESS_LIFETIME),
        ]
        versions = [] if before is None or earlier.trust is None else [(before, earlier.trust)]
        if root_key is not None:
            document = next_document(
                before,
                trust_domain=self._trust_domain if before is None else before.trust_domain,
                now=self._now,
                issuing=issuing_authorities(records),
                signers=signing_keys(records, AuthorityUse.JOBS),
                audit_keys=signing_keys(records, AuthorityUse.AUDIT),
            )
            versions.append((document, signed(document, root_key)))
        if not versions:
            raise KeysRefused("root.key is needed once more and is not there; put it back for this start")
        return records, versions

    def _root(self, earlier: EarlierKeys) -> tuple[x509.Certificate, EllipticCurvePrivateKey | None]:
        if earlier.root is not None:
            return earlier.root, earlier.root_key
        key = earlier.root_key or certificates.new_key()
        return certificates.make_root(key, trust_domain=self._trust_domain, now=self._now), key

    def _issuing(
        self,
        use: Use,
        authority_use: AuthorityUse,
        earlier: EarlierKeys,
        root: x509.Certificate,
        root_key: EllipticCurvePrivateKey | None,
    ) -> Record:
        ca = earlier.issuing.get(use)
        if ca is None:
            if root_key is None:
                raise KeysRefused("root.key is needed once more and is not there; put it back for this start")
            end = self._now + self._lifetimes.issuing
            ca = certificates.make_issuing(
                root, root_key, use=use, trust_domain=self._trust_domain, now=self._now, not_after=end
            )
        begins = min(self._now, ca.certificate.not_valid_before_utc)
        return ca_record(authority_use, ca.certificate, ca.key, self._vault, begins)

    def _jobs(self, key: Ed25519PrivateKey | None, before: TrustDocument | None) -> Record:
        """A signer that agents know already keeps the end that they were told."""
        if key is None or before is None or not before.signers:
            return self._key(AuthorityUse.JOBS, key, self._lifetimes.signer)
        made_at = from_milliseconds(before.issued_at_ms)
        term = Term(made_at, from_milliseconds(before.signers[0].not_after_ms))
        return key_record(AuthorityUse.JOBS, key, self._vault, made_at, term)

    def _key(self, use: AuthorityUse, key: Ed25519PrivateKey | None, lifetime: timedelta) -> Record:
        term = Term(self._now, self._now + lifetime)
        return key_record(use, key or Ed25519PrivateKey.generate(), self._vault, self._now, term)
