"""What the hub must say of each order in the end, given what really happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from protocol.enumerations import CommandOutcome, CommandReason, CommandStatus
from tests.simulation.truth import SameEnd, Truth

INTERRUPTED: Final[SameEnd] = (CommandOutcome.FAILED.value, CommandReason.INTERRUPTED.value, None)
CANCELLED: Final[SameEnd] = (CommandOutcome.CANCELLED.value, CommandReason.CANCELLED_BY_PERSON.value, None)
EXPIRED: Final[SameEnd] = (CommandOutcome.FAILED.value, CommandReason.EXPIRED.value, None)
DENIED: Final[SameEnd] = (CommandOutcome.FAILED.value, CommandReason.DENIED_BY_AGENT.value, None)


class Said(Struct, frozen=True):
    """What the hub holds of a command: its end, and its output by stream."""

    command_id: str
    end: SameEnd
    output: Mapping[str, bytes]


def allowed_ends(truth: Truth, *, could_expire: bool) -> set[SameEnd]:
    """Return every end that is no invention. `could_expire`: no time was left after the last fault."""
    if truth.end is not None:
        return {truth.end, INTERRUPTED} if truth.is_cut_at_its_end else {truth.end}
    if truth.runs:
        return {INTERRUPTED}
    ends = {DENIED} if truth.plan.is_forged else set()
    if truth.is_started_on_disk:
        ends.add(INTERRUPTED)
    if truth.cancel_asked:
        ends.add(CANCELLED)
    if could_expire:
        ends.add(EXPIRED)
    return ends


def breaches_of(truth: Truth, said: Said, *, could_expire: bool) -> Iterator[str]:
    """Yield what is wrong with what the hub says, in words."""
    name = f"job {truth.number} ({said.command_id})"
    if said.end[0] not in {CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.CANCELLED}:
        yield f"{name} is open for ever as {said.end[0]}"
        return
    allowed = allowed_ends(truth, could_expire=could_expire)
    if said.end not in allowed:
        yield f"{name} ended as {said.end}; true is {sorted(map(str, allowed))}"
    for stream, data in said.output.items():
        written = next((bytes(data) for own, data in truth.written.items() if own.value == stream), b"")
        if not written.startswith(data):
            yield f"{name}: {len(data)} stored bytes of {stream} are no beginning of the {len(written)} written"
    if not truth.lost_power:
        for own, written_bytes in truth.written.items():
            stored = said.output.get(own.value, b"")
            if len(stored) < len(written_bytes):
                yield f"{name}: {len(stored)} bytes of {own.value} are stored, {len(written_bytes)} were written"
