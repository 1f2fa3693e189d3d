"""What the daemon knows of itself, as `jtnt-agent status` shows it."""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

from msgspec import Struct

BEATS_COUNTED: Final = 20
_OFFSETS_KEPT: Final = 8

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


class Health(Struct, frozen=True, kw_only=True):
    """How the agent itself is. Null where it is not known yet.

    `heartbeat_success_percent`: of the last twenty. `clock_ahead_ms`: of this machine's clock against the hub's.
    `samples_per_second`: since the question before this one, by whoever asks each minute.
    """

    rss_bytes: int
    cpu_seconds: float
    cpu_percent: float
    samples_per_second: float
    heartbeat_success_percent: float | None
    clock_ahead_ms: int | None
    reconnects: int


class Status(Struct, frozen=True, kw_only=True):
    """Times in ms since the epoch, null where there is none. `policy`: the machine's own, in words."""

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
    health: Health
    policy: str = ""


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
        self.sessions = 0
        self._beats: deque[bool] = deque(maxlen=BEATS_COUNTED)
        self._offsets: deque[tuple[float, int]] = deque(maxlen=_OFFSETS_KEPT)

    @property
    def reconnects(self) -> int:
        return max(self.sessions - 1, 0)

    @property
    def heartbeat_success_percent(self) -> float | None:
        """Return it of the last beats that were sent; the newest may still be on its way and does not count."""
        counted = list(self._beats)
        if counted and not counted[-1] and self.link == "connected":
            counted.pop()
        return round(100 * sum(counted) / len(counted), 1) if counted else None

    @property
    def clock_ahead_ms(self) -> int | None:
        """Return how far this machine's clock is ahead of the hub's, by the fastest of the last answers."""
        return min(self._offsets)[1] if self._offsets else None

    def connecting(self) -> None:
        self.link = "connecting"
        self.next_attempt_ms = None

    def connected(self, session_id: str, at_ms: int) -> None:
        self.link = "connected"
        self.sessions += 1
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

    def heartbeat_sent(self) -> None:
        self._beats.append(False)

    def heartbeat_answered(self, at_ms: int, round_trip_ms: float, ahead_ms: int) -> None:
        self.last_heartbeat_ms = at_ms
        self.round_trip_ms = round_trip_ms
        if self._beats:
            self._beats[-1] = True
        self._offsets.append((round_trip_ms, ahead_ms))

    def clock_stepped(self) -> None:
        self._offsets.clear()
