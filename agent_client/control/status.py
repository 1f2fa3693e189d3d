"""What the daemon knows of itself, as `jtnt-agent status` shows it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

LinkState = Literal["starting", "connecting", "connected", "waiting"]


class SpoolStatus(Struct, frozen=True, kw_only=True):
    """`waiting` and `dropped` are counts a stream."""

    used_bytes: int
    waiting: dict[str, int]
    dropped: dict[str, int]


class CertificateStatus(Struct, frozen=True, kw_only=True):
    """Times in ms since the epoch, null where they are not known. `problem` is empty where there is none."""

    not_after_ms: int | None
    renew_at_ms: int | None
    renewal: Literal["scheduled", "asking", "changing", "failed", "awaiting_approval", "forbidden"]
    problem: str


class Status(Struct, frozen=True, kw_only=True):
    """Times in ms since the epoch, null where there is none."""

    pid: int
    agent_version: str
    agent_id: str
    organisation_id: str
    hub_url: str
    link: LinkState
    session_id: str
    connected_since_ms: int | None
    last_heartbeat_ms: int | None
    round_trip_ms: float | None
    next_attempt_ms: int | None
    last_end: str
    advice: str
    spool: SpoolStatus
    jobs_running: int
    jobs_unreported: int
    failing_collectors: list[str]
    certificate: CertificateStatus
    trust_version: int | None
    sample_interval_seconds: float
    heartbeat_interval_seconds: float


class Board:
    """The state of the link, written by those who change it. Mutable."""

    def __init__(self) -> None:
        self.link: LinkState = "starting"
        self.session_id = ""
        self.connected_since_ms: int | None = None
        self.last_heartbeat_ms: int | None = None
        self.round_trip_ms: float | None = None
        self.next_attempt_ms: int | None = None
        self.last_end = ""
        self.advice = ""

    def connecting(self) -> None:
        self.link = "connecting"
        self.next_attempt_ms = None

    def connected(self, session_id: str, at_ms: int) -> None:
        self.link = "connected"
        self.session_id = session_id
        self.connected_since_ms = at_ms
        self.advice = ""

    def handed_over(self, session_id: str) -> None:
        self.session_id = session_id

    def disconnected(self) -> None:
        self.link = "waiting"
        self.session_id = ""
        self.connected_since_ms = None

    def waiting(self, until_ms: int, last_end: str, advice: str) -> None:
        self.link = "waiting"
        self.next_attempt_ms = until_ms
        self.last_end = last_end
        self.advice = advice

    def heartbeat_answered(self, at_ms: int, round_trip_ms: float) -> None:
        self.last_heartbeat_ms = at_ms
        self.round_trip_ms = round_trip_ms
