"""What really happened to each job, whatever hub and agents say of it; and every promise that was seen broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from protocol.enumerations import CommandOutcome, CommandReason, OutputStream

SameEnd = tuple[str, str | None, int | None]


class Step(Struct, frozen=True):
    """After a while the process writes something."""

    after_seconds: float
    stream: OutputStream
    data: bytes


class Plan(Struct, frozen=True, kw_only=True):
    """What a job's process will do. `is_forged`: somebody altered the signature; it must never run."""

    steps: tuple[Step, ...]
    exit_code: int
    starts: bool = True
    is_forged: bool = False


class Truth(Struct, kw_only=True):
    """One order of a person. `number` travels as its argument; the rest is written down as it happens."""

    number: int
    agent_id: str
    key: str
    plan: Plan
    expires_in_seconds: int
    ids: set[str] = field(default_factory=set)
    expires_at_ms: int = 0
    runs: int = 0
    is_started_on_disk: bool = False
    end: SameEnd | None = None
    ended_at: float = 0.0
    is_cut_at_its_end: bool = False
    cancel_asked: bool = False
    is_cancelled_before_start: bool = False
    lost_power: bool = False
    written: dict[OutputStream, bytearray] = field(default_factory=dict)

    def finish(self, outcome: CommandOutcome, reason: CommandReason | None, exit_code: int | None, at: float) -> None:
        self.end = (outcome.value, reason.value if reason else None, exit_code)
        self.ended_at = at


class Broken(AssertionError):
    """A promise was broken; the message says which and how."""


class Records:
    """All orders of one world. `breaches` is empty as long as every promise holds."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell: Final = tell
        self.truths: list[Truth] = []
        self.of_id: dict[str, Truth] = {}
        self.breaches: list[str] = []

    def breach(self, text: str) -> None:
        self._tell(f"BROKEN: {text}")
        self.breaches.append(text)

    def identified(self, command_id: str, truth: Truth) -> None:
        truth.ids.add(command_id)
        self.of_id[command_id] = truth

    def job_on_disk(self, command_id: str, state: str) -> None:
        """An agent's journal holds this state durably."""
        truth = self.of_id.get(command_id)
        if truth is not None and state == "started":
            truth.is_started_on_disk = True
