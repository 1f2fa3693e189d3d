"""The hub's keys in memory, as one version of the trust document names them. A rotation makes another keyring.

Those that sign commands are not among them: the signer's own process opens them, and this one has them sealed.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub_server.clock import milliseconds
from hub_server.pki import certificates
from hub_server.pki.archive import COLUMN, TABLE, Record
from hub_server.pki.certificates import OwnKey, SigningCa, Use
from hub_server.pki.engine import Held, Term, active_of
from hub_server.pki.trust import document_of, trust_hash_of, verify_trust
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.vault import Vault
from protocol.enumerations import AuthorityUse
from protocol.envelope import IssuingAuthority, SignedTrust, SigningKey
from protocol.identity import key_id_of, pin_of

ISSUING: Final[dict[AuthorityUse, Use]] = {AuthorityUse.AGENTS: "agents", AuthorityUse.SERVERS: "servers"}


class Keyring:
    """What the rows say, with their private keys opened. Immutable."""

    def __init__(self, records: Sequence[Record], trust: SignedTrust, vault: Vault) -> None:
        """Raises KeysRefused when a key cannot be opened, or they do not belong together."""
        self.records: Final = tuple(records)
        self.held: Final[tuple[Held, ...]] = tuple(record.as_held() for record in records)
        self.trust: Final = trust
        self.trust_hash: Final = trust_hash_of(trust)
        root = next((record for record in records if record.use is AuthorityUse.ROOT), None)
        if root is None or root.certificate_pem is None:
            raise KeysRefused("the database holds no root certificate; restore it from a backup")
        self.root_id: Final = root.id
        self.root: Final = _certificate_of(root)
        self.root_pem: Final = root.certificate_pem
        self.root_pin: Final = pin_of(certificates.public_der_of_certificate(self.root))
        self._keys: dict[str, OwnKey] = {
            record.id: _opened(record, vault)
            for record in records
            if record.sealed_key is not None and record.use is not AuthorityUse.JOBS
        }
        self._authorities: dict[str, SigningCa] = {
            record.id: SigningCa(_certificate_of(record), key)
            for record in records
            if record.use in ISSUING and isinstance(key := self._keys.get(record.id), EllipticCurvePrivateKey)
        }
        self.agents_issuers: Final = frozenset(record.id for record in records if record.use is AuthorityUse.AGENTS)
        self._refuse_strangers()

    @property
    def root_key(self) -> EllipticCurvePrivateKey | None:
        """Return the root's key, None when it was taken offline."""
        key = self._keys.get(self.root_id)
        return key if isinstance(key, EllipticCurvePrivateKey) else None

    def issuing(self, use: AuthorityUse, now: datetime) -> tuple[str, SigningCa]:
        """Return id and CA of the one in use. Raises KeysRefused when there is none."""
        active = active_of(self.held, use, now)
        if active is None or active.id not in self._authorities:
            raise KeysRefused(f"there is no CA for {use} at hand; run `jtnt-hub ca rotate {use}`")
        return active.id, self._authorities[active.id]

    def signer(self, use: AuthorityUse, now: datetime) -> tuple[str, Ed25519PrivateKey]:
        """Return key id and key of the one in use. Raises KeysRefused when there is none."""
        active = active_of(self.held, use, now)
        key = None if active is None else self._keys.get(active.id)
        if active is None or not isinstance(key, Ed25519PrivateKey):
            raise KeysRefused(f"there is no key for {use} at hand; run `jtnt-hub ca rotate {use}`")
        return active.id, key

    def job_key(self, now: datetime) -> tuple[str, bytes]:
        """Return id and sealed key of the signer of commands in use. Raises KeysRefused when there is none."""
        active = active_of(self.held, AuthorityUse.JOBS, now)
        record = None if active is None else next(record for record in self.records if record.id == active.id)
        if record is None or record.sealed_key is None:
            raise KeysRefused("there is no key for jobs at hand; run `jtnt-hub ca rotate jobs`")
        return record.id, record.sealed_key

    def pems(self, use: AuthorityUse, now: datetime) -> str:
        """Return the certificates of every CA for `use` that is trusted and has not ended."""
        return "".join(
            record.certificate_pem
            for record in self.records
            if record.use is use and record.certificate_pem is not None and now < record.not_after
        )

    def _refuse_strangers(self) -> None:
        try:
            verify_trust(self.trust, self.root)
            document = document_of(self.trust)
            for record in self.records:
                if record.use in ISSUING:
                    _certificate_of(record).verify_directly_issued_by(self.root)
        except (msgspec.DecodeError, ValueError, TypeError, InvalidSignature) as error:
            raise KeysRefused(
                "the database's authorities are not signed by its root; restore the database from one backup"
            ) from error
        trusted = {authority.certificate_pem for authority in document.issuing_authorities}
        trusted |= {key.key_id for key in (*document.signers, *document.audit_keys)}
        named = {record.certificate_pem if record.use in ISSUING else record.id for record in self.records}
        if not trusted <= named:
            raise KeysRefused("the database lacks authorities that agents trust; restore the database from one backup")
        if not {record.certificate_pem for record in self.records if record.use in ISSUING} <= trusted:
            raise KeysRefused(
                "the database holds issuing CAs that are not in the trust document, so somebody put them there; remove "
                "them, or restore the database from one backup"
            )


def issuing_authorities(records: Sequence[Record]) -> list[IssuingAuthority]:
    """Return the CAs as the trust document names them."""
    return [
        IssuingAuthority(use=ISSUING[record.use], certificate_pem=record.certificate_pem)
        for record in records
        if record.use in ISSUING and record.certificate_pem is not None
    ]


def signing_keys(records: Sequence[Record], use: AuthorityUse) -> list[SigningKey]:
    """Return the Ed25519 keys for `use` as the trust document names them."""
    return [
        SigningKey(
            key_id=record.id,
            public_key=base64.b64encode(certificates.raw_public_of(record.public_key)).decode(),
            not_after_ms=milliseconds(record.not_after),
        )
        for record in records
        if record.use is use
    ]


def ca_record(
    use: AuthorityUse,
    certificate: x509.Certificate,
    key: EllipticCurvePrivateKey | None,
    vault: Vault,
    begins: datetime,
) -> Record:
    """Return the row of the root or an issuing CA. Without `key` it is offline."""
    authority_id = certificates.sha256_of(certificate)
    return Record(
        id=authority_id,
        use=use,
        certificate_pem=certificates.pem_of(certificate),
        public_key=certificates.public_pem_of_certificate(certificate),
        sealed_key=None if key is None else _sealed(key, vault, authority_id),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        active_from=begins,
    )


def key_record(use: AuthorityUse, key: Ed25519PrivateKey, vault: Vault, made_at: datetime, term: Term) -> Record:
    """Return the row of a signing key."""
    authority_id = key_id_of(key.public_key().public_bytes_raw())
    return Record(
        id=authority_id,
        use=use,
        certificate_pem=None,
        public_key=certificates.public_pem_of(key),
        sealed_key=_sealed(key, vault, authority_id),
        not_before=made_at,
        not_after=term.not_after,
        active_from=term.active_from,
    )


def job_key_record(public_key: bytes, sealed: bytes, made_at: datetime, term: Term) -> Record:
    """Return the row of a key that signs commands, of which the signer keeps the private half."""
    return Record(
        id=key_id_of(public_key),
        use=AuthorityUse.JOBS,
        certificate_pem=None,
        public_key=certificates.public_pem_of_raw(public_key),
        sealed_key=sealed,
        not_before=made_at,
        not_after=term.not_after,
        active_from=term.active_from,
    )


def vaulted_job_key(record: Record, vault: Vault) -> Ed25519PrivateKey | None:
    """Return the private half of a key that signs commands, where an earlier version sealed it as all others.

    Raises KeysRefused.
    """
    if record.use is not AuthorityUse.JOBS or record.sealed_key is None or not vault.is_ours(record.sealed_key):
        return None
    key = _opened(record, vault)
    return key if isinstance(key, Ed25519PrivateKey) else None


def _sealed(key: OwnKey, vault: Vault, authority_id: str) -> bytes:
    return vault.seal(certificates.key_der_of(key), table=TABLE, column=COLUMN, row=authority_id)


def _opened(record: Record, vault: Vault) -> OwnKey:
    place = f"{TABLE}.{COLUMN} of {record.id}"
    der = vault.unseal(record.sealed_key or b"", table=TABLE, column=COLUMN, row=record.id)
    key = certificates.own_key_from(der, place)
    if certificates.public_pem_of(key) != record.public_key:
        raise KeysRefused(f"{place} is not the key of its row; restore the database from a backup")
    return key


def _certificate_of(record: Record) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate((record.certificate_pem or "").encode())
    except ValueError as error:
        raise KeysRefused(f"the certificate of authority {record.id} is damaged; restore the database") from error
    if certificates.sha256_of(certificate) != record.id:
        raise KeysRefused(f"the certificate of authority {record.id} is another's; restore the database")
    return certificate
