"""How an authority begins: made anew, or taken over from the files of an earlier version."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.record import record as audit
from hub_server.clock import from_milliseconds
from hub_server.pki import certificates, files
from hub_server.pki.archive import Archive, Record
from hub_server.pki.certificates import Use
from hub_server.pki.engine import Lifetimes, Term
from hub_server.pki.files import EarlierKeys
from hub_server.pki.keyring import (
    Keyring,
    ca_record,
    issuing_authorities,
    job_key_record,
    key_record,
    signing_keys,
)
from hub_server.pki.ports import JobKeys, MadeKey
from hub_server.pki.trust import document_of, next_document, signed
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.vault import Vault
from protocol.enumerations import AuthorityUse
from protocol.envelope import SignedTrust, TrustDocument
from protocol.identity import key_id_of

log = structlog.get_logger(component="keys")

HANDED_OVER: Final = (
    "the signer took over the key of commands; earlier copies of the database still open with the secrets key: "
    "run `jtnt-hub ca rotate jobs` once"
)
ACCESS_LIFETIME: Final = timedelta(days=3650)


class Founding:
    def __init__(
        self,
        *,
        archive: Archive,
        vault: Vault,
        job_keys: JobKeys,
        trust_domain: str,
        now: datetime,
        lifetimes: Lifetimes,
    ) -> None:
        self._archive = archive
        self._vault = vault
        self._job_keys = job_keys
        self._trust_domain = trust_domain
        self._now = now
        self._lifetimes = lifetimes

    async def keyring(self, database: Database, directory: Path) -> Keyring:
        """Return the authority's keys, made now where there are none; `directory`: where an earlier version left them.

        Raises KeysRefused when they cannot be used, OSError.
        """
        async with database.read(EVERY_ORGANISATION) as connection:
            await self._archive.lock_shared(connection)
            keyring = await keyring_in(connection, self._archive, self._vault)
        if keyring is None:
            made = None if files.has_earlier_keys(directory) else await self._job_keys.make()  # while nobody is held up
            async with database.write(EVERY_ORGANISATION) as connection:
                await self._archive.lock(connection)
                keyring = await keyring_in(connection, self._archive, self._vault)
                if keyring is None:
                    files.refuse_lost_database(directory)
                    keyring = await self._found(connection, directory, files.earlier_keys(directory), made)
                    _refuse_other_domain(keyring, self._trust_domain)
                    await self._audit(connection, keyring.root_id)
        _refuse_other_domain(keyring, self._trust_domain)
        return keyring

    async def _found(
        self, connection: AsyncConnection, directory: Path, earlier: EarlierKeys, made: MadeKey | None
    ) -> Keyring:
        """Write an authority of what `earlier` has and new keys for the rest, within the caller's transaction.

        `made`: a new key of the signer, for where there is no earlier one.

        Raises KeysRefused when the parts of `earlier` do not belong together.
        """
        try:
            records, versions = self._parts(earlier, await self._jobs(earlier, made))
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

    def _parts(
        self, earlier: EarlierKeys, jobs: Record
    ) -> tuple[list[Record], list[tuple[TrustDocument, SignedTrust]]]:
        before = None if earlier.trust is None else document_of(earlier.trust)
        root, root_key = self._root(earlier)
        records = [
            ca_record(AuthorityUse.ROOT, root, root_key, self._vault, root.not_valid_before_utc),
            self._issuing("agents", AuthorityUse.AGENTS, earlier, root, root_key),
            self._issuing("servers", AuthorityUse.SERVERS, earlier, root, root_key),
            jobs,
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

    async def _jobs(self, earlier: EarlierKeys, made: MadeKey | None) -> Record:
        """A signer that agents know already keeps the end that they were told."""
        key = earlier.jobs_key
        if key is None:
            made = made or await self._job_keys.make()
        else:
            made = await self._job_keys.adopt(key.private_bytes_raw())
            log.warning(HANDED_OVER, key_id=key_id_of(made[0]))
        before = None if earlier.trust is None else document_of(earlier.trust)
        if key is None or before is None or not before.signers:
            return job_key_record(*made, self._now, Term(self._now, self._now + self._lifetimes.signer))
        made_at = from_milliseconds(before.issued_at_ms)
        return job_key_record(*made, made_at, Term(made_at, from_milliseconds(before.signers[0].not_after_ms)))

    def _key(self, use: AuthorityUse, key: Ed25519PrivateKey | None, lifetime: timedelta) -> Record:
        term = Term(self._now, self._now + lifetime)
        return key_record(use, key or Ed25519PrivateKey.generate(), self._vault, self._now, term)

    async def _audit(self, connection: AsyncConnection, root_id: str) -> None:
        await audit(
            connection,
            organisation_id=EVERY_ORGANISATION,
            at=self._now,
            actor="hub",
            action="authorities:create",
            target=f"authority:{root_id}",
        )


async def keyring_in(connection: AsyncConnection, archive: Archive, vault: Vault) -> Keyring | None:
    records, newest = await archive.records(connection), await archive.newest_trust(connection)
    return None if not records or newest is None else Keyring(records, newest[1], vault)


def _refuse_other_domain(keyring: Keyring, trust_domain: str) -> None:
    domain = document_of(keyring.trust).trust_domain
    if domain != trust_domain:
        raise KeysRefused(
            f"this hub's trust domain is {domain}, the settings say {trust_domain}: it cannot change once agents have "
            "certificates; set pki.trust_domain back"
        )
