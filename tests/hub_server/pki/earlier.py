"""The folder of keys as an earlier version of the hub left it: private files, nothing in the database."""

import base64
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub_server.clock import milliseconds
from hub_server.pki import certificates
from hub_server.pki.certificates import Use
from hub_server.pki.trust import next_document, signed
from protocol.envelope import IssuingAuthority, SigningKey
from protocol.identity import key_id_of

NAMED_IN_TRUST = ("root.crt", "agents-ca.pem", "servers-ca.pem", "jobs.key")
IN_ORDER = ("root.key", "root.crt", "agents-ca.pem", "servers-ca.pem", "jobs.key", "access.key", "trust.json")
"""As a first start wrote them."""


def write_earlier(folder: Path, now: datetime, trust_domain: str = "jtnt") -> dict[str, bytes]:
    """Write all of it and return name → content."""
    root_key = certificates.new_key()
    root = certificates.make_root(root_key, trust_domain=trust_domain, now=now)
    uses: tuple[Use, ...] = ("agents", "servers")
    issuing = {
        use: certificates.make_issuing(
            root, root_key, use=use, trust_domain=trust_domain, now=now, not_after=now + timedelta(days=365)
        )
        for use in uses
    }
    jobs, access = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = jobs.public_key().public_bytes_raw()
    signer = SigningKey(
        key_id=key_id_of(public),
        public_key=base64.b64encode(public).decode(),
        not_after_ms=milliseconds(now + timedelta(days=3650)),
    )
    document = next_document(
        None,
        trust_domain=trust_domain,
        now=now,
        issuing=[IssuingAuthority(use=use, certificate_pem=ca.pem) for use, ca in issuing.items()],
        signers=[signer],
        audit_keys=[],
    )
    files = {
        "root.key": certificates.key_pem_of(root_key),
        "root.crt": certificates.pem_of(root).encode(),
        "agents-ca.pem": issuing["agents"].pem.encode() + certificates.key_pem_of(issuing["agents"].key),
        "servers-ca.pem": issuing["servers"].pem.encode() + certificates.key_pem_of(issuing["servers"].key),
        "jobs.key": _pem(jobs),
        "access.key": _pem(access),
        "trust.json": msgspec.json.encode(signed(document, root_key)),
    }
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return files


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
