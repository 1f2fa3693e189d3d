"""Bodies of the REST routes: enrollment of agents and sign-in of people."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from protocol.codes import ErrorCode
from protocol.desired import AgentPolicy
from protocol.elements import Text, UnixMs, Word
from protocol.envelope import SignedTrust
from protocol.frames import SystemInformation

Pem = Annotated[str, Meta(max_length=16384)]


class SnakeBody(Struct, frozen=True, kw_only=True):
    """REST of seed 000: snake_case."""


class CamelBody(Struct, frozen=True, kw_only=True, rename="camel"):
    """REST of seed 004: camelCase."""


class EnrollmentSystemInformation(SnakeBody, frozen=True):
    hostname: Word
    os: Word
    os_version: Text = ""
    arch: Text = ""
    cpu_count: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    memory_total_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 0
    ip_addresses: Annotated[list[Text], Meta(max_length=64)] = []

    def as_frame_body(self) -> SystemInformation:
        return SystemInformation(
            hostname=self.hostname,
            os=self.os,
            os_version=self.os_version,
            arch=self.arch,
            cpu_count=self.cpu_count,
            memory_total_bytes=self.memory_total_bytes,
            ip_addresses=self.ip_addresses,
        )


class EnrollRequest(SnakeBody, frozen=True):
    """`POST /api/v1/agent/enroll`. The CSR gives a public key and proof of its possession, and nothing else."""

    token: Annotated[str, Meta(max_length=256)]
    csr_pem: Pem
    agent_version: Word
    boot_id: Word
    sysinfo: EnrollmentSystemInformation


class EnrollReply(SnakeBody, frozen=True):
    """`client_cert_pem`: leaf, then its issuing CA. `ca_bundle_pem`: root, then the issuing CAs."""

    agent_id: str
    client_cert_pem: str
    ca_bundle_pem: str
    trust: SignedTrust
    policy: AgentPolicy
    websocket_url: str
    next_heartbeat_sec: int


class EnrollPending(SnakeBody, frozen=True):
    agent_id: str
    poll_after_sec: int
    status: Literal["pending"] = "pending"


class RegisterRequest(CamelBody, frozen=True):
    """`POST /api/agents/register` with `X-API-Key: itsk_…`."""

    hostname: Word
    os_type: Word
    agent_version: Word
    csr_pem: Pem
    ip_address: Text = ""
    os_version: Text = ""
    config: dict[str, Any] = {}


class RegisterReply(CamelBody, frozen=True):
    id: str
    websocket_url: str
    certificate_pem: str
    ca_bundle_pem: str
    trust: SignedTrust
    policy: AgentPolicy
    status: Literal["created"] = "created"


class CaReply(SnakeBody, frozen=True):
    """`GET /api/v1/agent/ca`: what an agent checks against its token's pin before it says anything."""

    ca_bundle_pem: str
    trust: SignedTrust


class RecoverRequest(SnakeBody, frozen=True):
    """`POST /api/v1/agent/recover`: an agent whose certificate ran out asks for a new one.

    `certificate_pem`: its last leaf. `signature`: base64, by that certificate's key over `recovery_statement(…)`.
    """

    certificate_pem: Pem
    csr_pem: Pem
    signed_at_ms: UnixMs
    signature: Annotated[str, Meta(max_length=1024)]
    agent_version: Word
    boot_id: Word


def recovery_statement(trust_domain: str, csr_pem: str, signed_at_ms: int) -> bytes:
    """Return the bytes that a recovering agent signs with its old key."""
    digest = hashlib.sha256(csr_pem.encode()).hexdigest()
    return f"jtnt.recover.v1\n{trust_domain}\n{digest}\n{signed_at_ms}\n".encode()


class SignInRequest(CamelBody, frozen=True):
    """`otp`: an authenticator's code, or a recovery code. `organisation`: the name of one, for who is in several."""

    username: Annotated[str, Meta(min_length=1, max_length=128)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    otp: Annotated[str, Meta(max_length=16)] | None = None
    organisation: Annotated[str, Meta(max_length=128)] | None = None


class SignInReply(CamelBody, frozen=True):
    """`second_factor_needed`: until the person sets up TOTP they may do nothing else."""

    access_token: str
    expires_in_sec: int
    second_factor_needed: bool = False


class ErrorBody(CamelBody, frozen=True, omit_defaults=True):
    code: ErrorCode
    message: str
    path: str | None = None
    retry_after_sec: int | None = None


class ErrorReply(CamelBody, frozen=True):
    error: ErrorBody
