"""Keys exchanged: what the engine decides, carried out within one transaction with its audit rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.record import record as audit
from hub_server.errors import Conflict
from hub_server.pki import certificates
from hub_server.pki.archive import Archive, Record
from hub_server.pki.engine import (
    Forget,
    Held,
    Lifetimes,
    Retire,
    Revoke,
    Rotate,
    Rotated,
    Step,
    Term,
    active_of,
    made_ahead,
    newest_of,
    signs_until,
    steps_due,
    term_of,
)
from hub_server.pki.keyring import (
    ISSUING,
    Keyring,
    ca_record,
    issuing_authorities,
    job_key_record,
    key_record,
    signing_keys,
)
from hub_server.pki.operator_keys import OperatorChange, changed
from hub_server.pki.ports import MadeKey
from hub_server.pki.trust import document_of, next_document, signed
from hub_server.storage.engine import EVERY_ORGANISATION
from hub_server.storage.vault import Vault
from protocol.enumerations import AuthorityUse
from protocol.envelope import SigningKey


class Rotation:
    """One transaction's changes to `keyring`, whose rows the caller has locked.

    `job_key`: what the signer made for it, wherever one is to be exchanged: nobody waits for the signer in here.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        keyring: Keyring,
        *,
        archive: Archive,
        vault: Vault,
        job_key: MadeKey | None,
        lifetimes: Lifetimes,
        now: datetime,
        actor: str,
    ) -> None:
        self._connection = connection
        self._keyring = keyring
        self._archive = archive
        self._vault = vault
        self._job_key = job_key
        self._lifetimes = lifetimes
        self._now = now
        self._actor = actor
        self._records = {record.id: record for record in keyring.records}
        self._revoked: list[str] = []
        self._operator_keys: list[SigningKey] | None = None

    async def steps(self) -> list[Step]:
        """Return what is due by the clock."""
        return steps_due(await self._held(), self._now, self._lifetimes)

    async def carry_out(self, steps: Sequence[Step], root_key: EllipticCurvePrivateKey | None) -> None:
        """Do `steps`, retire what they replaced, and sign the next trust document where it changed.

        Raises Conflict when the root is needed and not there, or when a key is to be replaced that is not used yet.
        """
        changed = [await self._do(step, root_key) for step in steps]
        for step in await self.steps():
            if isinstance(step, Retire):
                await self._retire(step.id)
        if any(changed):
            await self._sign(_needed(root_key))

    async def change_operators(self, change: OperatorChange, root_key: EllipticCurvePrivateKey | None) -> None:
        """Let a person's key count, or no more, and sign the next trust document.

        Raises Conflict when the root is needed and not there, or the key is there or revoked already, NotFound.
        """
        self._operator_keys, revoked = changed(document_of(self._keyring.trust), change)
        self._revoked += revoked
        await self._sign(_needed(root_key))
        await audit(
            self._connection,
            organisation_id=EVERY_ORGANISATION,
            at=self._now,
            actor=self._actor,
            action=f"operator-keys:{change.verb}",
            target=f"operator-key:{change.key_id}",
            detail={"name": change.name},
        )

    async def _do(self, step: Step, root_key: EllipticCurvePrivateKey | None) -> bool:
        """Return whether the trust document changes by it."""
        match step:
            case Rotate(use):
                await self._rotate(use, _needed(root_key))
                return True
            case Revoke(use):
                await self._revoke(use, _needed(root_key))
                return True
            case Forget(authority_id):
                _needed(root_key)
                await self._forget(authority_id)
                await self._audit("authorities:forget", authority_id)
                return True
            case Retire(authority_id):
                await self._retire(authority_id)
                return False

    async def _rotate(self, use: Rotated, root_key: EllipticCurvePrivateKey) -> None:
        for key in made_ahead(await self._held(), use, self._now):
            await self._retire(key.id)
        held = await self._held()
        newest = newest_of(held, use)
        if newest is not None and newest.active_from > self._now and newest != active_of(held, use, self._now):
            raise Conflict(
                f"the next key for {use} waits already, to be used from {newest.active_from:%Y-%m-%d %H:%M} UTC; "
                "rotate again after that"
            )
        term = term_of(use, held, self._now, self._lifetimes, self._keyring.root.not_valid_after_utc)
        if use is AuthorityUse.JOBS and newest is not None:
            await self._shorten(newest, term)
        record = self._made(use, term, root_key)
        self._records[record.id] = record
        await self._archive.add(self._connection, record)
        detail = {"use": use, "activeFrom": record.active_from.isoformat(), "notAfter": record.not_after.isoformat()}
        await self._audit("authorities:rotate", record.id, detail)

    async def _revoke(self, use: Rotated, root_key: EllipticCurvePrivateKey) -> None:
        """Every key for `use` goes, also one that waits and one that was retired: they lay side by side."""
        for stolen in [record for record in self._records.values() if record.use is use]:
            await self._forget(stolen.id)
            await self._audit("authorities:revoke", stolen.id, {"use": use})
            if use not in ISSUING:
                self._revoked.append(stolen.id)
        await self._rotate(use, root_key)

    async def _forget(self, authority_id: str) -> None:
        del self._records[authority_id]
        await self._archive.forget(self._connection, authority_id)

    async def _shorten(self, before: Held, term: Term) -> None:
        end = signs_until(before, term, self._lifetimes)
        self._records[before.id] = msgspec.structs.replace(self._records[before.id], not_after=end)
        await self._archive.shorten(self._connection, before.id, end)

    def _made(self, use: Rotated, term: Term, root_key: EllipticCurvePrivateKey) -> Record:
        if use is AuthorityUse.JOBS:
            assert self._job_key is not None, "a key that signs commands is made before its transaction"
            return job_key_record(*self._job_key, self._now, term)
        if use not in ISSUING:
            return key_record(use, Ed25519PrivateKey.generate(), self._vault, self._now, term)
        ca = certificates.make_issuing(
            self._keyring.root,
            root_key,
            use=ISSUING[use],
            trust_domain=document_of(self._keyring.trust).trust_domain,
            now=self._now,
            not_after=term.not_after,
        )
        return ca_record(use, ca.certificate, ca.key, self._vault, term.active_from)

    async def _retire(self, authority_id: str) -> None:
        retired = msgspec.structs.replace(self._records[authority_id], retired_at=self._now, sealed_key=None)
        self._records[authority_id] = retired
        await self._archive.retire(self._connection, authority_id, self._now)
        await self._audit("authorities:retire", authority_id)

    async def _sign(self, root_key: EllipticCurvePrivateKey) -> None:
        before, records = document_of(self._keyring.trust), list(self._records.values())
        document = next_document(
            before,
            trust_domain=before.trust_domain,
            now=self._now,
            issuing=issuing_authorities(records),
            signers=signing_keys(records, AuthorityUse.JOBS),
            audit_keys=signing_keys(records, AuthorityUse.AUDIT),
            operator_keys=self._operator_keys,
            revoked=self._revoked,
        )
        await self._archive.add_trust(self._connection, document.version, signed(document, root_key), self._now)
        await self._audit("trust:sign", str(document.version))

    async def _held(self) -> list[Held]:
        needed = await self._archive.needed_until(self._connection)
        return [record.as_held(needed.get(record.id)) for record in self._records.values()]

    async def _audit(self, action: str, authority_id: str, detail: dict[str, str] | None = None) -> None:
        await audit(
            self._connection,
            organisation_id=EVERY_ORGANISATION,
            at=self._now,
            actor=self._actor,
            action=action,
            target=f"{'trust' if action == 'trust:sign' else 'authority'}:{authority_id}",
            detail=detail,
        )


def _needed(root_key: EllipticCurvePrivateKey | None) -> EllipticCurvePrivateKey:
    if root_key is None:
        raise Conflict("the root key is not at hand: run `jtnt-hub ca rotate … --root-key FILE` with its file")
    return root_key
