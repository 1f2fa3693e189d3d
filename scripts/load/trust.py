"""What a simulated agent checks: that a trust document is the root's, and that a job's signer stands in it."""

from __future__ import annotations

import base64

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from protocol.envelope import JobEnvelope, SignedTrust, TrustDocument
from protocol.frames import Command


class Distrusted(Exception):
    """The message says what is wrong with a trust document or a job."""


class Trust:
    """The newest document that the root signed. `root_pem`: the anchor of the fleet."""

    def __init__(self, root_pem: str) -> None:
        key = x509.load_pem_x509_certificate(root_pem.encode()).public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        self._root = key
        self._document: TrustDocument | None = None

    @property
    def version(self) -> int:
        return 0 if self._document is None else self._document.version

    def take(self, signed: SignedTrust) -> None:
        """Go by `signed` from now on. Raises Distrusted."""
        content = base64.b64decode(signed.document)
        for signature in signed.signatures:
            try:
                self._root.verify(base64.b64decode(signature.signature), content, ECDSA(SHA256()))
            except InvalidSignature as forged:
                raise Distrusted("a trust document that the root did not sign") from forged
        document = msgspec.json.decode(content, type=TrustDocument)
        if not signed.signatures or document.version < self.version:
            raise Distrusted(f"trust document {document.version} after {self.version}")
        self._document = document

    def check(self, command: Command, agent_id: str, now_ms: int) -> None:
        """Raises Distrusted unless a signer of the document ordered exactly this, of this agent, and in time."""
        payload = base64.b64decode(command.payload)
        signers = {} if self._document is None else {signer.key_id: signer for signer in self._document.signers}
        for signature in command.signatures:
            signer = signers.get(signature.key_id)
            if signer is None or now_ms > signer.not_after_ms:
                raise Distrusted(f"a job of the unknown key {signature.key_id}; trust document {self.version}")
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer.public_key))
            try:
                key.verify(base64.b64decode(signature.signature), payload)
            except InvalidSignature as forged:
                raise Distrusted("a job whose signature is not of its key") from forged
        envelope = msgspec.json.decode(payload, type=JobEnvelope)
        if not command.signatures or envelope.agent_id != agent_id or envelope.expires_at < now_ms:
            raise Distrusted("a job for another agent, or one that came too late")
