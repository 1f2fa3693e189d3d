"""Frames of the agents' WebSocket: JSON text, tagged by `type`, camelCase, times in ms since the epoch.

No frame carries an identity: it comes from the client certificate alone. Unknown fields are ignored, so that a newer
side may say more; an unknown `type` is answered with `error`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from msgspec import UNSET, Meta, UnsetType, field

from protocol.elements import Body, ByteOffset, CommandId, Frame, Hash, Text, UnixMs, Word
from protocol.enumerations import (
    AlertSeverity,
    CommandOutcome,
    CommandReason,
    DesiredName,
    GoodbyeReason,
    JobState,
    Lane,
    OutputStream,
    RefusalAction,
    TextEncoding,
)
from protocol.limits import METRIC_NAMES_MAX, OUTPUT_CHUNK_MAX_BYTES, SAMPLES_PER_FRAME_MAX

Sequence = Annotated[int, Meta(ge=1, le=2**53)]
Epoch = Annotated[int, Meta(ge=1, le=2**53)]
SequenceRange = tuple[Sequence, Sequence]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = bool | Integer | float | str | None
MetricValue = Scalar | list[dict[str, Scalar]]
MetricData = Annotated[dict[str, MetricValue], Meta(max_length=METRIC_NAMES_MAX)]


class StreamState(Body, frozen=True):
    """What an agent still holds of one stream: an empty spool has `oldest` = `newest` + 1."""

    epoch: Epoch
    oldest: Annotated[int, Meta(ge=1)]
    newest: Annotated[int, Meta(ge=0)]


class StreamStates(Body, frozen=True):
    live: StreamState
    backfill: StreamState
    events: StreamState


class JobProgress(Body, frozen=True):
    """One job of the agent's journal; `offsets` are the bytes captured so far per output stream."""

    command_id: CommandId
    state: JobState
    offsets: dict[OutputStream, ByteOffset] = {}


class StateHashes(Body, frozen=True):
    """Hashes of the desired state an agent has applied; empty where it has none."""

    config: Hash = ""
    policy: Hash = ""
    inventory: Hash = ""
    trust: Hash = ""
    certificate: Hash = ""


class LastDisconnect(Body, frozen=True):
    code: int
    reason: Text
    at_ms: UnixMs


class SystemInformation(Body, frozen=True):
    """What an agent says of its machine (seed 000, "System Info"). Nothing personal beyond name and addresses."""

    hostname: Word
    os: Word
    os_version: Text = ""
    arch: Text = ""
    cpu_count: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    memory_total_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 0
    ip_addresses: Annotated[list[Text], Meta(max_length=64)] = []


class Hello(Frame, frozen=True, tag="hello"):
    """First frame of an agent, within 5 s and 64 KiB."""

    protocol: tuple[int, int]
    agent_version: Word
    boot_id: Word
    clock_ms: UnixMs
    monotonic_ms: UnixMs
    streams: StreamStates
    capabilities: Annotated[list[Word], Meta(max_length=64)] = []
    jobs: Annotated[list[JobProgress], Meta(max_length=1000)] = []
    hashes: StateHashes = StateHashes()
    last_disconnect: LastDisconnect | None = None


class StreamAck(Body, frozen=True):
    """Sequences the hub holds durably, as closed ranges in ascending order."""

    epoch: Epoch
    ranges: list[SequenceRange]


class Checkpoint(Body, frozen=True):
    """The hub's newest audit checkpoint, kept by agents as witnesses.

    `number` is `position` on the wire, without which agents of version 0.1 understand no welcome. `signature`: Ed25519
    in base64 by the audit key `key_id` of the trust document.
    """

    hub_id: Word
    number: Annotated[int, Meta(ge=0, le=2**53)] = field(name="position")
    hash: Hash
    at_ms: UnixMs
    key_id: Word
    signature: Text


class Welcome(Frame, frozen=True, tag="welcome"):
    protocol: int
    session_id: Word
    server_time_ms: UnixMs
    next_heartbeat_sec: int
    sample_interval_sec: int
    credits: dict[str, int]
    acks: dict[str, StreamAck] = {}
    jobs: list[CommandId] = []
    desired: dict[DesiredName, Hash] = {}
    checkpoint: Checkpoint | None = None
    inventory: dict[str, Hash] = {}
    """The hash of each section the hub holds; the agent sends those that are others now."""


class Refuse(Frame, frozen=True, tag="refuse"):
    """Said after the upgrade, before a close: in TLS 1.3 a client cannot tell why its handshake was refused."""

    code: int
    message: Text
    action: RefusalAction
    retry_after_sec: int | None = None


class Heartbeat(Frame, frozen=True, tag="heartbeat"):
    clock_ms: UnixMs
    monotonic_ms: UnixMs
    dropped: dict[str, int] = {}
    spool_bytes: Annotated[int, Meta(ge=0)] = 0
    sysinfo: SystemInformation | None = None


class HeartbeatAck(Frame, frozen=True, tag="heartbeat:ack"):
    next_heartbeat_sec: int
    server_time_ms: UnixMs
    echo_clock_ms: UnixMs
    ok: bool = True


class Sample(Body, frozen=True, gc=False):
    seq: Sequence
    ts: UnixMs
    metric_type: Word
    metric_data: MetricData


class Metrics(Frame, frozen=True, tag="metrics"):
    epoch: Epoch
    lane: Lane
    samples: Annotated[list[Sample], Meta(min_length=1, max_length=SAMPLES_PER_FRAME_MAX)]


class RaisedAlert(Body, frozen=True):
    type: str
    severity: AlertSeverity
    message: str


class MetricsAck(Frame, frozen=True, tag="metrics:ack"):
    """Sent after the commit. `alerts` are those already raised by these samples (seed 004, "Submit Metrics")."""

    epoch: Epoch
    lane: Lane
    ranges: list[SequenceRange]
    credits: int
    alerts: list[RaisedAlert] = []
    status: Literal["received"] = "received"


class Event(Frame, frozen=True, tag="event"):
    epoch: Epoch
    seq: Sequence
    ts: UnixMs
    kind: Word
    data: MetricData = {}


class EventAck(Frame, frozen=True, tag="event:ack"):
    epoch: Epoch
    ranges: list[SequenceRange]


class Inventory(Frame, frozen=True, tag="inventory"):
    """One part of a section of protocol/inventory.py, sent when its `hash` is not the one the hub holds.

    `hash` is of the whole section. Parts come in order, `part` from 1 to `parts`; only lists (`items`) are parted.
    """

    hash: Hash
    body: dict[str, Any]
    section: Word = "hardware"
    part: Annotated[int, Meta(ge=1, le=64)] = 1
    parts: Annotated[int, Meta(ge=1, le=64)] = 1


class InventoryAck(Frame, frozen=True, tag="inventory:ack"):
    """The hub holds the whole section, durably."""

    section: Word
    hash: Hash


class Signature(Body, frozen=True):
    key_id: Word
    signature: Annotated[str, Meta(max_length=256)]


class Command(Frame, frozen=True, tag="command"):
    """A job for an agent.

    `command_data` is for people and logs; the agent obeys only `payload`: the base64 of the exact bytes of a
    `protocol.envelope.JobEnvelope` that the signatures cover. `script`: base64 of the one whose hash is in there.
    """

    command_id: CommandId
    command_type: Word
    command_data: dict[str, Any]
    payload: str
    signatures: Annotated[list[Signature], Meta(max_length=4)]
    expires_at: UnixMs
    script: str = ""


class CommandAccepted(Frame, frozen=True, tag="command:accepted"):
    command_id: CommandId
    ts: UnixMs


class CommandStarted(Frame, frozen=True, tag="command:started"):
    command_id: CommandId
    ts: UnixMs


class CommandOutput(Frame, frozen=True, tag="command:output"):
    """A chunk of output that starts `offset` bytes into its stream.

    Base64 where the bytes are no UTF-8 or hold a NUL. Escaped as JSON, the frame stays within FRAME_MAX_BYTES.
    """

    command_id: CommandId
    stream: OutputStream
    offset: ByteOffset
    data: Annotated[str, Meta(max_length=2 * OUTPUT_CHUNK_MAX_BYTES)]
    encoding: TextEncoding = TextEncoding.UTF8


class CommandOutputAck(Frame, frozen=True, tag="command:output:ack"):
    """The hub holds every byte of the stream below `offset`."""

    command_id: CommandId
    stream: OutputStream
    offset: ByteOffset
    credits: int


class CommandResult(Frame, frozen=True, tag="command:result"):
    """How a command ended. Repeated until acknowledged; the first one the hub stores wins."""

    command_id: CommandId
    status: CommandOutcome
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**32 - 1)] | None = None
    reason: CommandReason | None = None
    result: Text = ""
    rule: Text = ""
    started_at: UnixMs | None = None
    finished_at: UnixMs | None = None
    output_bytes: dict[OutputStream, ByteOffset] = {}
    truncated: bool = False


class CommandResultAck(Frame, frozen=True, tag="command:result:ack"):
    command_id: CommandId


class CommandCancel(Frame, frozen=True, tag="command:cancel"):
    command_id: CommandId


class CommandQuery(Frame, frozen=True, tag="command:query"):
    command_id: CommandId


class CommandState(Frame, frozen=True, tag="command:state"):
    command_id: CommandId
    state: JobState
    offsets: dict[OutputStream, ByteOffset] = {}


class Desired(Frame, frozen=True, tag="desired"):
    """State an agent shall reach. Offered again until applied; the latest wins."""

    name: DesiredName
    hash: Hash
    body: dict[str, Any]


class DesiredApplied(Frame, frozen=True, tag="desired:applied"):
    name: DesiredName
    hash: Hash


class DesiredRejected(Frame, frozen=True, tag="desired:rejected"):
    name: DesiredName
    hash: Hash
    reason: Text


class CertificateRequest(Frame, frozen=True, tag="certificate:request"):
    request_id: Word
    csr_pem: Annotated[str, Meta(max_length=8192)]


class CertificateReply(Frame, frozen=True, tag="certificate:reply"):
    request_id: Word
    certificate_pem: str


class Drain(Frame, frozen=True, tag="drain"):
    """Come back elsewhere or later: each agent in its own slot."""

    over_sec: int
    slot_sec: int


class Goodbye(Frame, frozen=True, tag="goodbye"):
    reason: GoodbyeReason


class Error(Frame, frozen=True, tag="error"):
    code: Word
    message: Text
    reply_to: str | UnsetType = UNSET


AgentFrame = (
    Hello
    | Heartbeat
    | Metrics
    | Event
    | Inventory
    | CommandAccepted
    | CommandStarted
    | CommandOutput
    | CommandResult
    | CommandState
    | DesiredApplied
    | DesiredRejected
    | CertificateRequest
    | Goodbye
    | Error
)
HubFrame = (
    Welcome
    | Refuse
    | HeartbeatAck
    | MetricsAck
    | EventAck
    | InventoryAck
    | Command
    | CommandOutputAck
    | CommandResultAck
    | CommandCancel
    | CommandQuery
    | Desired
    | CertificateReply
    | Drain
    | Goodbye
    | Error
)
AGENT_FRAMES: Final[tuple[type[Frame], ...]] = get_args(AgentFrame)
HUB_FRAMES: Final[tuple[type[Frame], ...]] = get_args(HubFrame)
