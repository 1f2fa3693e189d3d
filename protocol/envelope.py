"""The signed order inside a `command` frame, and the root-signed trust document that says whose signature counts."""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from protocol.elements import Body, CommandId, UnixMs, Word
from protocol.enumerations import Action
from protocol.frames import Signature
from protocol.limits import (
    ARGUMENT_MAX_CHARS,
    ARGV_MAX_ITEMS,
    COMMAND_TIMEOUT_MAX_SECONDS,
    OUTPUT_STORED_MAX_BYTES,
)

Argument = Annotated[str, Meta(max_length=ARGUMENT_MAX_CHARS)]
TimeoutSeconds = Annotated[float, Meta(gt=0, le=COMMAND_TIMEOUT_MAX_SECONDS)]


class JobEnvelope(Body, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="jtnt.job.v1"):
    """What an agent is ordered to do. Signed with Ed25519 over its raw encoded bytes; the job id is the nonce.

    Unlike in frames, a field that the reader does not know is refused: it might forbid what the others order.

    `requested_by`: the person or key that asked, for the machine's own log.
    """

    job_id: CommandId
    organisation_id: Word
    agent_id: Word
    action: Action
    argv: Annotated[list[Argument], Meta(max_length=ARGV_MAX_ITEMS)]
    issued_at: UnixMs
    expires_at: UnixMs
    timeout_sec: TimeoutSeconds
    environment: dict[str, Argument] = field(default_factory=dict)
    working_directory: str | None = None
    run_as: str | None = None
    interpreter: str | None = None
    script_sha256: str | None = None
    requested_by: str = ""
    output_limit_bytes: Annotated[int, Meta(ge=0, le=64 * OUTPUT_STORED_MAX_BYTES)] = OUTPUT_STORED_MAX_BYTES


class IssuingAuthority(Body, frozen=True):
    use: Literal["agents", "servers"]
    certificate_pem: str


class SigningKey(Body, frozen=True):
    """An Ed25519 public key: 32 bytes in base64. `name`: whose it is, of an operator's."""

    key_id: Word
    public_key: str
    not_after_ms: UnixMs
    name: str = ""


class TrustDocument(Body, frozen=True, tag_field="kind", tag="jtnt.trust.v1"):
    """Whom agents of this fleet trust. Its version never goes back.

    `operator_keys`: of people, who may sign orders beside the hub's signer; none of them suffices alone.
    """

    version: Annotated[int, Meta(ge=1)]
    issued_at_ms: UnixMs
    trust_domain: Word
    issuing_authorities: list[IssuingAuthority]
    signers: list[SigningKey]
    update_keys: list[SigningKey] = field(default_factory=list)
    audit_keys: list[SigningKey] = field(default_factory=list)
    operator_keys: list[SigningKey] = field(default_factory=list)
    revoked_key_ids: list[str] = field(default_factory=list)


class SignedTrust(Body, frozen=True):
    """`document`: base64 of the bytes of a TrustDocument. Signatures: by the root, ECDSA P-256 SHA-256, DER, base64."""

    document: str
    signatures: list[Signature]


def checkpoint_statement(hub_id: str, number: int, entry_hash: str, at_ms: int) -> bytes:
    """Return the bytes that an audit checkpoint's signature covers."""
    return f"jtnt.checkpoint.v1\n{hub_id}\n{number}\n{entry_hash}\n{at_ms}\n".encode()


CommandData = dict[str, Any]
