"""What waits for an executor that is not there: bounded in frames and in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent_client.execution.wire import JobFrame
from protocol.frames import Command

FRAMES_MAX: Final = 512
BYTES_MAX: Final = 4 * 1024 * 1024

Key = tuple[str, str]
"""A job and the type of a frame about it."""


class Backlog:
    """Frames in the order in which they came, one of each type a job. Each call costs the same however many wait."""

    def __init__(self) -> None:
        self._frames: dict[Key, JobFrame] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._frames)

    def keep(self, frame: JobFrame) -> bool:
        """Keep `frame` in place of the one of its type; return whether there was room, else nothing happens."""
        key = frame.command_id, type(frame).__name__
        before = self._frames.get(key)
        size_bytes = self._bytes + _size(frame) - (0 if before is None else _size(before))
        if size_bytes > BYTES_MAX or (before is None and len(self) >= FRAMES_MAX):
            return False
        self._frames[key] = frame
        self._bytes = size_bytes
        return True

    def drop(self, command_id: str, frame_type: type[JobFrame]) -> None:
        """Nothing happens where none of that type waits."""
        frame = self._frames.pop((command_id, frame_type.__name__), None)
        if frame is not None:
            self._bytes -= _size(frame)

    def frames(self) -> list[JobFrame]:
        return list(self._frames.values())


def _size(frame: JobFrame) -> int:
    return len(frame.payload) + len(frame.script) if isinstance(frame, Command) else 0
