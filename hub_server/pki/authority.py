"""The hub's certificate authority and its signing keys: the one object that everybody else asks.

What is behind it changes while the hub runs: a rotation, here or by another hub or command, makes another keyring. So
nobody keeps what a property returned; they keep the Authority.

Where things are: rows in archive.py, keys in memory in keyring.py, decisions in engine.py, rotations in rotation.py,
the first start in founding.py, the folder in files.py and server_certificate.py. worker.py looks after it all.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.record import record as audit
from hub_server.clock import Clock
from hub_server.errors import Conflict, InvalidRequest, Unavailable
from hub_server.pki import certificates, files
from hub_server.pki.archive import Archive
from hub_server.pki.engine import ROTATED, Lifetimes, Retire, Revoke, Rotate, Rotated, Step
from hub_server.pki.founding import HANDED_OVER, Founding, keyring_in
from hub_server.pki.keyring import ISSUING, Keyring, vaulted_job_key
from hub_server.pki.model import IssuedCertificate, ServerCredentials, serial_text
from hub_server.pki.operator_keys import OperatorChange, operator_key_of
from hub_server.pki.overview import advice_on, overview_of
from hub_server.pki.ports import JobKeys, MadeKey
from hub_server.pki.rotation import Rotation
from hub_server.pki.server_certificate import server_certificate
from hub_server.pki.trust import document_of
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.vault import Vault
from protocol.desired import CertificateTerms
from protocol.enumerations import AuthorityUse
from protocol.envelope import SignedTrust
from protocol.frames import Signature
from protocol.identity import AgentIdentity
from protocol.oversight import AuthoritiesListReply

log = structlog.get_logger(component="keys")

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
RENEWALS_OVER_MAX_SECONDS: Final = 86400


class Authority:
    """Issues certificates and signs. Everything it does is CPU work of a fraction of a millisecond."""

    def __init__(
        self,
        *,
        database: Database,
        vault: Vault,
        job_keys: JobKeys,
        directory: Path,
        clock: Clock,
        lifetimes: Lifetimes,
        keyring: Keyring,
    ) -> None:
        self._database = database
        self._vault = vault
        self._job_keys = job_keys
        self._directory = directory
        self._clock = clock
        self._lifetimes = lifetimes
        self._archive = Archive()
        self._keyring = keyring
        self.trust_domain: Final = document_of(keyring.trust).trust_domain

    @classmethod
    async def open_or_create(
        cls,
        database: Database,
        vault: Vault,
        *,
        job_keys: JobKeys,
        directory: Path,
        trust_domain: str,
        clock: Clock,
        lifetimes: Lifetimes | None = None,
    ) -> Authority:
        """Return the authority of a migrated database, made now where there is none.

        `directory`: the hub's own folder of keys; what an earlier version left there is taken over. Raises KeysRefused
        when the keys cannot be used, OSError.
        """
        lifetimes = lifetimes or Lifetimes()
        founding = Founding(
            archive=Archive(),
            vault=vault,
            job_keys=job_keys,
            trust_domain=trust_domain,
            now=clock.now(),
            lifetimes=lifetimes,
        )
        keyring = await founding.keyring(database, directory)
        files.keep_root(directory, keyring.root_pem)
        files.remove_earlier_keys(directory)
        opened = cls(
            database=database,
            vault=vault,
            job_keys=job_keys,
            directory=directory,
            clock=clock,
            lifetimes=lifetimes,
            keyring=keyring,
        )
        await opened._hand_over_job_keys()
        return opened

    # What others are told to trust.

    @property
    def root_pem(self) -> str:
        return self._keyring.root_pem

    @property
    def root_pin(self) -> bytes:
        return self._keyring.root_pin

    @property
    def trust(self) -> SignedTrust:
        return self._keyring.trust

    @property
    def trust_hash(self) -> str:
        return self._keyring.trust_hash

    @property
    def trust_version(self) -> int:
        return document_of(self._keyring.trust).version

    @property
    def agents_ca_pem(self) -> str:
        """Return the CA that issues agents' certificates now."""
        return self._keyring.issuing(AuthorityUse.AGENTS, self._clock.now())[1].pem

    @property
    def agents_anchors_pem(self) -> str:
        """Return every CA whose agents are let in."""
        return self._keyring.pems(AuthorityUse.AGENTS, self._clock.now())

    def trusts_issuer(self, issuer: str) -> bool:
        """Tell whether certificates that this CA issued to agents count: one that was revoked is gone."""
        return issuer in self._keyring.agents_issuers

    @property
    def ca_bundle_pem(self) -> str:
        """Return the root, then every issuing CA that has not ended."""
        now = self._clock.now()
        return self.root_pem + "".join(self._keyring.pems(use, now) for use in ISSUING)

    @property
    def certificate_terms(self) -> CertificateTerms:
        """Return which issuer agents' certificates shall come from. Agents take an overlap to change, at most a day."""
        issuer, _ = self._keyring.issuing(AuthorityUse.AGENTS, self._clock.now())
        over = min(RENEWALS_OVER_MAX_SECONDS, int(self._lifetimes.overlap.total_seconds()))
        return CertificateTerms(issuer_sha256=issuer, over_sec=over)

    @property
    def issuing_expires_at(self) -> datetime:
        """Return when the first of the issuing CAs in use ends."""
        now = self._clock.now()
        return min(self._keyring.issuing(use, now)[1].certificate.not_valid_after_utc for use in ISSUING)

    # What it makes.

    @property
    def jwt_key(self) -> Ed25519PrivateKey:
        return self._keyring.signer(AuthorityUse.ACCESS, self._clock.now())[1]

    def issue_agent_certificate(self, identity: AgentIdentity, csr_pem: str) -> IssuedCertificate:
        """Return a certificate for the key of `csr_pem`, which gives nothing else. Raises InvalidRequest."""
        public_key, now = certificates.public_key_of_csr(csr_pem), self._clock.now()
        issuer_id, issuer = self._keyring.issuing(AuthorityUse.AGENTS, now)
        leaf = certificates.make_agent(
            issuer, public_key, uri=identity.uri, now=now, lifetime=self._lifetimes.agent_certificate
        )
        return IssuedCertificate(
            organisation_id=identity.organisation_id,
            agent_id=identity.agent_id,
            serial=serial_text(leaf.serial_number),
            pem=certificates.pem_of(leaf) + issuer.pem,
            public_key_sha256=certificates.key_sha256_of(public_key),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            issuer=issuer_id,
        )

    async def sign_job(self, payload: bytes) -> Signature:
        """Let the signer sign the exact bytes of a JobEnvelope (Ed25519, base64).

        Raises InvalidRequest when it is none that may be signed, RateLimited, Unavailable.
        """
        key_id, sealed = self._keyring.job_key(self._clock.now())
        signature = await self._job_keys.sign(key_id, sealed, payload)
        return Signature(key_id=key_id, signature=base64.b64encode(signature).decode())

    def operator_key(self, key_id: str) -> bytes | None:
        """Return the 32 bytes of a person's key that counts now, None when there is none of this id."""
        return operator_key_of(document_of(self.trust), key_id, self._clock.now())

    def sign_checkpoint(self, statement: bytes) -> Signature:
        """Sign the exact bytes of a checkpoint of the audit (Ed25519, base64)."""
        key_id, key = self._keyring.signer(AuthorityUse.AUDIT, self._clock.now())
        return Signature(key_id=key_id, signature=base64.b64encode(key.sign(statement)).decode())

    def server_credentials(self, names: Sequence[str]) -> ServerCredentials:
        """Return a server certificate for `names`, this machine's name and loopback; renewed when it is time."""
        wanted = tuple(dict.fromkeys((*LOCAL_NAMES, socket.gethostname(), *names)))
        now = self._clock.now()
        _, issuer = self._keyring.issuing(AuthorityUse.SERVERS, now)
        path = server_certificate(self._directory, issuer, wanted, now=now, lifetime=self._lifetimes.server_certificate)
        return ServerCredentials(certificate_path=path, key_path=path)

    # How it changes.

    async def refresh(self) -> bool:
        """Read what other hubs and commands have changed; return whether there was anything.

        Raises KeysRefused when the rows cannot be used; what was there before is kept then.
        """
        async with self._database.read(EVERY_ORGANISATION) as connection:
            await self._archive.lock_shared(connection)
            records = await self._archive.records(connection)
            newest = await self._archive.newest_trust(connection)
        if newest is None or (tuple(records) == self._keyring.records and newest[1] == self.trust):
            return False
        self._keyring = Keyring(records, newest[1], self._vault)
        return True

    async def tend(self) -> bool:
        """Do what is due by the clock; return whether anything was. Without the root only what does not need it."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            due = _possible(await self._rotation(connection, self._keyring, "hub").steps(), self._keyring)
        try:
            job_key = await self._job_key_for(due)
        except Unavailable as error:  # what needs no signer does not wait for it
            log.warning("no new key for commands yet; tried again", why=error.message)
            job_key, due = None, [step for step in due if not _exchanges_job_key(step)]
        if not due:
            return False
        async with self._database.write(EVERY_ORGANISATION) as connection:
            keyring = await self._locked(connection)
            rotation = self._rotation(connection, keyring, "hub", job_key)
            steps = [step for step in await rotation.steps() if job_key is not None or not _exchanges_job_key(step)]
            await rotation.carry_out(_possible(steps, keyring), keyring.root_key)
            keyring = await self._again(connection)
        self._keyring = keyring
        return True

    async def rotate(self, *uses: Rotated, actor: str, root_key_pem: bytes | None = None, revoke: bool = False) -> None:
        """Make new keys for `uses` now (all that are ever rotated when none is named), in one transaction.

        `revoke`: those before them were stolen; the new ones are used at once, and nothing trusts the others any more.
        Raises Conflict when the root is not at hand or a new key waits already, InvalidRequest for a wrong root key;
        nothing is changed then.
        """
        given = None if root_key_pem is None else self._root_key_from(root_key_pem)
        steps = [Revoke(use) if revoke else Rotate(use) for use in uses or ROTATED]
        job_key = await self._job_key_for(steps)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            keyring = await self._locked(connection)
            rotation = self._rotation(connection, keyring, actor, job_key)
            await rotation.carry_out(steps, given or keyring.root_key)
            keyring = await self._again(connection)
        self._keyring = keyring

    async def change_operators(self, change: OperatorChange, *, actor: str, root_key_pem: bytes | None = None) -> None:
        """Let a person's key count, or no more, by the next trust document.

        Raises Conflict when the root is not at hand or the key is known, InvalidRequest for a wrong root key, NotFound.
        """
        given = None if root_key_pem is None else self._root_key_from(root_key_pem)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            keyring = await self._locked(connection)
            await self._rotation(connection, keyring, actor).change_operators(change, given or keyring.root_key)
            keyring = await self._again(connection)
        self._keyring = keyring

    def root_key_pem(self) -> bytes:
        """Return the root's private key, PKCS 8 in PEM. Raises Conflict when it was taken offline."""
        key = self._keyring.root_key
        if key is None:
            raise Conflict("the root key was taken offline before; the hub does not have it")
        return certificates.key_pem_of(key)

    async def take_root_offline(self, kept_pem: bytes, *, actor: str) -> None:
        """Forget the root's private key, of which the caller shows the copy that is kept elsewhere.

        Raises InvalidRequest when that is another key.
        """
        self._root_key_from(kept_pem)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            keyring = await self._locked(connection)
            await self._archive.take_offline(connection, keyring.root_id)
            await _audit(connection, self._clock.now(), actor, "authorities:take-offline", keyring.root_id)
            keyring = await self._again(connection)
        self._keyring = keyring

    # What people are shown.

    def advice(self) -> list[str]:
        """Return what a person should do; nothing while the hub helps itself."""
        return advice_on(self._keyring, self._clock.now())

    def overview(self) -> AuthoritiesListReply:
        return overview_of(self._keyring, self._clock.now(), self._lifetimes)

    async def _job_key_for(self, steps: Iterable[Step]) -> MadeKey | None:
        """Return a key from the signer where a step needs one: before the transaction, so that no writer waits."""
        return await self._job_keys.make() if any(map(_exchanges_job_key, steps)) else None

    def _rotation(
        self, connection: AsyncConnection, keyring: Keyring, actor: str, job_key: MadeKey | None = None
    ) -> Rotation:
        return Rotation(
            connection,
            keyring,
            archive=self._archive,
            vault=self._vault,
            job_key=job_key,
            lifetimes=self._lifetimes,
            now=self._clock.now(),
            actor=actor,
        )

    async def _hand_over_job_keys(self) -> None:
        """Give the signer the keys that an earlier version kept as all others: this process opens them once more."""
        adopted = {
            record.id: (await self._job_keys.adopt(key.private_bytes_raw()))[1]
            for record in self._keyring.records
            if (key := vaulted_job_key(record, self._vault)) is not None
        }
        if not adopted:
            return
        async with self._database.write(EVERY_ORGANISATION) as connection:
            keyring = await self._locked(connection)
            for record in keyring.records:
                if record.id in adopted and vaulted_job_key(record, self._vault) is not None:
                    await self._archive.reseal(connection, record.id, adopted[record.id])
                    log.warning(HANDED_OVER, key_id=record.id)
                    await _audit(connection, self._clock.now(), "hub", "authorities:hand-over", record.id)
            self._keyring = await self._again(connection)

    async def _locked(self, connection: AsyncConnection) -> Keyring:
        await self._archive.lock(connection)
        return await self._again(connection)

    async def _again(self, connection: AsyncConnection) -> Keyring:
        """Return what is in the database within the transaction: what cannot be used is not committed."""
        keyring = await keyring_in(connection, self._archive, self._vault)
        if keyring is None:
            raise KeysRefused("the database's authority is gone; restore the database from a backup")
        return keyring

    def _root_key_from(self, pem: bytes) -> EllipticCurvePrivateKey:
        try:
            key = certificates.p256_key_from(pem, "the root key's file")
        except KeysRefused as error:
            raise InvalidRequest(str(error)) from error
        if certificates.public_der_of(key.public_key()) != certificates.public_der_of_certificate(self._keyring.root):
            raise InvalidRequest("that is not the key of this hub's root")
        return key


def _possible(steps: Sequence[Step], keyring: Keyring) -> list[Step]:
    """Return the steps that can be done with the keys at hand."""
    return [step for step in steps if keyring.root_key is not None or isinstance(step, Retire)]


def _exchanges_job_key(step: Step) -> bool:
    return isinstance(step, Rotate | Revoke) and step.use is AuthorityUse.JOBS


async def _audit(connection: AsyncConnection, at: datetime, actor: str, action: str, authority_id: str) -> None:
    await audit(
        connection,
        organisation_id=EVERY_ORGANISATION,
        at=at,
        actor=actor,
        action=action,
        target=f"authority:{authority_id}",
    )
