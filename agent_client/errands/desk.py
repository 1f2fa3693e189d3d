"""How each errand is done. Everything the hub sent is checked here, before the daemon sees it."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import assert_never

from agent_client.certificate import chain_of, described
from agent_client.enrollment.errors import BadAnswer, EnrollmentError, HubNotReached, HubRefused, WrongHub
from agent_client.enrollment.hub import HubAddress, HubDoor
from agent_client.enrollment.key import AgentKey
from agent_client.enrollment.validation import check_chain
from agent_client.errands.shapes import (
    AskRecovery,
    CertificateChecked,
    CheckCertificate,
    CheckTrust,
    Errand,
    Failed,
    Fault,
    FetchTrust,
    Fleet,
    KeyMade,
    MakeKey,
    Outcome,
    Recovered,
    RecoveryPending,
    TrustChecked,
)
from agent_client.trust.document import TrustError
from agent_client.trust.root import verify_trust
from agent_client.version import AGENT_VERSION
from protocol.codes import ErrorCode
from protocol.enrollment import EnrollPending, RecoverRequest, recovery_statement
from protocol.envelope import SignedTrust


def do(errand: Errand) -> Outcome:
    """Return what came of the errand; a failure is an outcome too."""
    try:
        return _done(errand)
    except HubNotReached as error:
        return Failed(fault=Fault.UNREACHED, message=str(error))
    except HubRefused as error:
        fault = Fault.FORBIDDEN if error.error_code == ErrorCode.FORBIDDEN else Fault.REFUSED
        return Failed(fault=fault, message=str(error))
    except (TrustError, BadAnswer, WrongHub) as error:
        return Failed(fault=Fault.UNBELIEVABLE, message=str(error))
    except EnrollmentError as error:
        return Failed(fault=Fault.BROKEN, message=str(error))


def _done(errand: Errand) -> Outcome:
    match errand:
        case MakeKey():
            key = AgentKey.from_pem(errand.key_pem.encode()) if errand.key_pem else AgentKey.generate()
            return KeyMade(key_pem=key.to_pem().decode(), csr_pem=key.request_pem())
        case CheckCertificate():
            key = AgentKey.from_pem(errand.key_pem.encode())
            now = None if errand.may_be_over else datetime.now(UTC)
            return CertificateChecked(certificate=_checked(errand.chain_pem, key, errand.fleet, errand.agent_id, now))
        case CheckTrust():
            return TrustChecked(trust=_believed(errand.trust, errand.fleet))
        case FetchTrust():
            answer = HubDoor(HubAddress.of_socket(errand.hub_url)).fetch_ca()
            return TrustChecked(trust=_believed(answer.trust, errand.fleet))
        case AskRecovery():
            return _recovery(errand)
        case _:
            assert_never(errand)


def _recovery(errand: AskRecovery) -> Outcome:
    old, new = AgentKey.from_pem(errand.key_pem.encode()), AgentKey.from_pem(errand.next_key_pem.encode())
    csr_pem, signed_at_ms = new.request_pem(), time.time_ns() // 1_000_000
    statement = recovery_statement(errand.fleet.trust_domain, csr_pem, signed_at_ms)
    request = RecoverRequest(
        certificate_pem=_leaf(errand.chain_pem),
        csr_pem=csr_pem,
        signed_at_ms=signed_at_ms,
        signature=base64.b64encode(old.sign(statement)).decode(),
        agent_version=AGENT_VERSION,
        boot_id=errand.boot_id,
    )
    answer = HubDoor(HubAddress.of_socket(errand.hub_url)).recover(request, errand.anchors_pem)
    if isinstance(answer, EnrollPending):
        return RecoveryPending(fingerprint=new.fingerprint)
    return Recovered(
        certificate=_checked(answer.client_cert_pem, new, errand.fleet, errand.agent_id, datetime.now(UTC)),
        trust=_believed(answer.trust, errand.fleet),
    )


def _checked(chain_pem: str, key: AgentKey, fleet: Fleet, agent_id: str, now: datetime | None) -> str:
    """Return the certificate file to keep. Raises BadAnswer when the chain is not of this fleet, key and agent."""
    facts = check_chain(chain_pem, fleet.ca_bundle_pem, key.public_der(), now)
    if (facts.identity.trust_domain, facts.identity.agent_id) != (fleet.trust_domain, agent_id):
        raise BadAnswer(f"the certificate the hub sent is for {facts.identity.uri}, not for this agent")
    return described(chain_pem, facts.identity, facts.not_before, facts.not_after).decode()


def _believed(trust: SignedTrust, fleet: Fleet) -> SignedTrust:
    verify_trust(trust, fleet.ca_bundle_pem.encode(), fleet.trust_domain)
    return trust


def _leaf(chain_pem: str) -> str:
    end = "-----END CERTIFICATE-----\n"
    return chain_of(chain_pem.encode()).partition(end)[0] + end
