"""One job, as it stands between an order and a result that the hub holds."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct, field

from agent_client.execution.capture import Capture
from agent_client.execution.process import Valve
from protocol.enumerations import JobState, OutputStream
from protocol.frames import CommandResult

AHEAD_MAX_BYTES: Final = 256 * 1024
"""So much of a stream may wait for the hub, while it is there, before the job is slowed; less than a usual head."""


class Job(Struct, eq=False):
    """A job the hub does not hold the result of. Mutable; Jobs writes it, the reporter reads it and writes `acked`."""

    command_id: str
    state: JobState
    accepted_at: int
    capture: Capture
    started_at: int | None = None
    has_process: bool = False
    result: CommandResult | None = None
    is_written: bool = False
    """Whether the journal has the result."""
    acked: dict[OutputStream, int] = field(default_factory=dict)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    valve: Valve = field(default_factory=Valve)

    def is_ahead(self) -> bool:
        """Tell whether the hub must catch up before more is read of the process."""
        if self.capture.is_full():
            return False
        return any(size - self.acked.get(stream, 0) > AHEAD_MAX_BYTES for stream, size in self.capture.sizes.items())
