"""What is promised of commands, checked while it happens: at each commit of the hub, and at each word it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.elements import Frame
from protocol.enumerations import CommandStatus, OutputStream
from protocol.frames import Command, CommandOutputAck, CommandResultAck
from protocol.limits import OUTPUT_STORED_MAX_BYTES
from tests.simulation.hub_database import CommandChange, OutputAdded
from tests.simulation.truth import Records

ENDED: Final = frozenset({CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.CANCELLED})
_RANK: Final[Mapping[str, int]] = {
    CommandStatus.PENDING: 0,
    CommandStatus.SENT: 1,
    CommandStatus.EXECUTING: 2,
    **dict.fromkeys(ENDED, 3),
}


class Promises:
    """Sees what is committed, and what is said: nothing may be said that is not committed."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.committed: dict[str, str] = {}
        self.stored_bytes: dict[tuple[str, str], int] = {}

    @property
    def open_count(self) -> int:
        return sum(status not in ENDED for status in self.committed.values())

    def command_committed(self, change: CommandChange) -> None:
        command_id, before, after, reason_before, reason, key = change
        self.committed[command_id] = after
        if before is None:
            self._added(command_id, key)
        elif before in ENDED and (before, reason_before) != (after, reason):
            self._records.breach(f"{command_id} had ended as {before} ({reason_before}) and became {after} ({reason})")
        elif _RANK[after] < _RANK[before]:
            self._records.breach(f"{command_id} went back from {before} to {after}")

    def output_committed(self, added: OutputAdded) -> None:
        command_id, stream, start, length = added
        held = self.stored_bytes.get((command_id, stream), 0)
        if start != held:
            self._records.breach(f"{command_id} {stream}: stored from {start} where {held} bytes were stored")
        self.stored_bytes[command_id, stream] = start + length

    def hub_says(self, frame: Frame) -> None:
        """Nothing is acknowledged, and nothing ordered, that a power cut would take back."""
        match frame:
            case CommandResultAck(command_id=command_id):
                if self.committed.get(command_id) not in ENDED:
                    self._records.breach(f"{command_id}: a result was acknowledged before it was committed")
            case CommandOutputAck(command_id=command_id, stream=stream, offset=offset):
                held = self._held(command_id, stream)
                if min(offset, OUTPUT_STORED_MAX_BYTES) > held:
                    self._records.breach(f"{command_id} {stream}: {offset} bytes acknowledged, {held} committed")
            case Command(command_id=command_id):
                if self.committed.get(command_id) in {None, CommandStatus.PENDING}:
                    self._records.breach(f"{command_id}: the order was sent before that was committed")
            case _:
                pass

    def _held(self, command_id: str, stream: OutputStream) -> int:
        return self.stored_bytes.get((command_id, stream.value), 0)

    def _added(self, command_id: str, key: str | None) -> None:
        truth = next((truth for truth in self._records.truths if truth.key == key), None)
        if truth is None:
            self._records.breach(f"{command_id}: nobody asked for it")
            return
        self._records.identified(command_id, truth)
        if len(truth.ids) > 1:
            self._records.breach(f"one order became {len(truth.ids)} commands")
