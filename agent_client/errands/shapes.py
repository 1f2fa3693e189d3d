"""Errands and their outcomes: what travels between the daemon and the process that runs one."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from protocol.envelope import SignedTrust


class Message(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of what travels; keys and certificates are PEM."""


class Fleet(Struct, frozen=True, kw_only=True):
    """Whom an outcome is checked against. `ca_bundle_pem`: its first certificate, the root, is what counts."""

    ca_bundle_pem: str
    trust_domain: str


class MakeKey(Message, frozen=True, tag="make_key"):
    """A new key and its CSR; the CSR alone where `key_pem` is given."""

    key_pem: str = ""


class CheckCertificate(Message, frozen=True, tag="check_certificate"):
    """Is this chain of the fleet, for this key and this agent? `may_be_over`: whenever it is or was valid."""

    fleet: Fleet
    agent_id: str
    chain_pem: str
    key_pem: str
    may_be_over: bool = False


class CheckTrust(Message, frozen=True, tag="check_trust"):
    """Has the fleet's root signed this document?"""

    fleet: Fleet
    trust: SignedTrust


class FetchTrust(Message, frozen=True, tag="fetch_trust"):
    """Ask whoever answers at the hub's address for a trust document, and believe the root's signature alone."""

    fleet: Fleet
    hub_url: str


class AskRecovery(Message, frozen=True, tag="ask_recovery"):
    """Ask for a certificate in place of one that ran out, with the old key's proof.

    `anchors_pem`: the authorities the hub's own certificate may come from.
    """

    fleet: Fleet
    hub_url: str
    anchors_pem: str
    agent_id: str
    boot_id: str
    chain_pem: str
    key_pem: str
    next_key_pem: str


class KeyMade(Message, frozen=True, tag="key_made"):
    key_pem: str
    csr_pem: str


class CertificateChecked(Message, frozen=True, tag="certificate_checked"):
    """`certificate`: the file to keep, which begins with what the certificate says."""

    certificate: str


class TrustChecked(Message, frozen=True, tag="trust_checked"):
    trust: SignedTrust


class RecoveryPending(Message, frozen=True, tag="recovery_pending"):
    """A person has to approve it. `fingerprint`: SHA-256 of the new public key, as the hub shows it."""

    fingerprint: str


class Recovered(Message, frozen=True, tag="recovered"):
    certificate: str
    trust: SignedTrust


class Fault(StrEnum):
    """What an errand failed for, as far as it makes a difference to the daemon."""

    UNREACHED = "unreached"
    REFUSED = "refused"
    FORBIDDEN = "forbidden"
    UNBELIEVABLE = "unbelievable"
    BROKEN = "broken"


class Failed(Message, frozen=True, tag="failed"):
    fault: Fault
    message: str


Errand = MakeKey | CheckCertificate | CheckTrust | FetchTrust | AskRecovery
Outcome = KeyMade | CertificateChecked | TrustChecked | RecoveryPending | Recovered | Failed
