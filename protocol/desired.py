"""Bodies of the desired state that the hub offers and an agent applies."""

from typing import Annotated

from msgspec import Meta

from protocol.elements import Body
from protocol.enumerations import Action
from protocol.limits import HEARTBEAT_SECONDS, SAMPLE_SECONDS


class AgentConfig(Body, frozen=True, omit_defaults=False):
    """Settings of an agent that people change on the hub (seed 004, "Agent Configuration")."""

    sample_interval_sec: Annotated[int, Meta(ge=1, le=3600)] = SAMPLE_SECONDS
    heartbeat_interval_sec: Annotated[int, Meta(ge=5, le=600)] = HEARTBEAT_SECONDS
    metrics_enabled: bool = True
    security_checks_enabled: bool = True
    inventory_enabled: bool = True
    processes_enabled: bool = False
    """Names and users of running processes leave the machine only where people turned it on."""
    logins_enabled: bool = False


class AgentPolicy(Body, frozen=True, omit_defaults=False):
    """What the organisation lets this agent do. The agent's own policy file may only narrow it."""

    version: int = 1
    allowed_actions: tuple[str, ...] = tuple(Action)


class CertificateTerms(Body, frozen=True, omit_defaults=False):
    """Which authority an agent's certificate shall come from. An agent with another one asks for a new certificate at
    a random moment of the next `over_sec` seconds.

    `issuer_sha256`: of the issuing CA's certificate in DER, hexadecimal.
    """

    issuer_sha256: str
    over_sec: Annotated[int, Meta(ge=0, le=30 * 86400)] = 86400
