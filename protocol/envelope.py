"""The signed order inside a `command` frame, and the root-signed trust document that says whose signature counts."""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from protocol.frames import Body, CommandId, Signature, UnixMs, Word
from protocol.limits import (
    ARGUMENT_MAX_CHARS,
    ARGV_MAX_ITEMS,
    COMMAND_TIMEOUT_MAX_SECONDS,
    OUTPUT_STORED_MAX_BYTES,
)

Argument = Annotated[str, Meta(max_length=ARGUMENT_MAX_CHARS)]
TimeoutSeconds = Annotated[float, Meta(gt=0, le=COMMAND_TIMEOUT_MAX_SECONDS)]


class JobEnvelope(Body, frozen=True, tag_field="kind", tag="jtnt.job.v1"):
    """What an agent is ordered to do. Signed with Ed25519 over its raw encoded bytes; the job id is the nonce."""

    job_id: CommandId
    organisation_id: Word
    agent_id: Word
    action: Literal["exec"]
    argv: Annotated[list[Argument], Meta(min_length=1, max_length=ARGV_MAX_ITEMS)]
    issued_at: UnixMs
    expires_at: UnixMs
    timeout_sec: TimeoutSeconds
    environment: dict[str, Argument] = field(default_factory=dict)
    working_directory: str | None = None
    run_as: str | None = None
    script_sha256: str | None = None
    output_limit_bytes: Annotated[int, Meta(ge=0, le=64 * OUTPUT_STORED_MAX_BYTES)] = OUTPUT_STORED_MAX_BYTES


class IssuingAuthority(Body, frozen=True):
    use: Literal["agents", "servers"]
    certificate_pem: str


class SigningKey(Body, frozen=True):
    """An Ed25519 public key: 32 bytes in base64."""

    key_id: Word
    public_key: str
    not_after_ms: UnixMs


class TrustDocument(Body, frozen=True, tag_field="kind", tag="jtnt.trust.v1"):
    """Whom agents of this fleet trust. Its version never goes back."""

    version: Annotated[int, Meta(ge=1)]
    issued_at_ms: UnixMs
    trust_domain: Word
    issuing_authorities: list[IssuingAuthority]
    signers: list[SigningKey]
    update_keys: list[SigningKey] = field(default_factory=list)
    audit_keys: list[SigningKey] = field(default_factory=list)
    revoked_key_ids: list[str] = field(default_factory=list)


class SignedTrust(Body, frozen=True):
    """`document`: base64 of the bytes of a TrustDocument. Signatures: by the root, ECDSA P-256 SHA-256, DER, base64."""

    document: str
    signatures: list[Signature]


def checkpoint_statement(hub_id: str, number: int, entry_hash: str, at_ms: int) -> bytes:
    """Return the bytes that an audit checkpoint's signature covers."""
    return f"jtnt.checkpoint.v1\n{hub_id}\n{number}\n{entry_hash}\n{at_ms}\n".encode()


class ExecData(Body, frozen=True, forbid_unknown_fields=True):
    """`commandData` of `commandType: "exec"`, as people and scripts send it."""

    argv: Annotated[list[Argument], Meta(min_length=1, max_length=ARGV_MAX_ITEMS)]
    environment: dict[str, Argument] = field(default_factory=dict)
    working_directory: str | None = None


CommandData = dict[str, Any]
