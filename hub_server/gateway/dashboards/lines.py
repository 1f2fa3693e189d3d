"""Who hears what: the lines of all clients that are signed in, by room."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from hub_server.gateway.dashboards.line import Line, Traffic
from hub_server.gateway.dashboards.message import Message
from protocol.events import DashboardEvent

COMPRESSED_MIN_LINES: Final = 16
"""For so many, what is not sent saves more than compressing takes: by TLS for 5 already, in the clear for some 20."""


class Lines:
    """A line is in no room until it enters one. Nothing here waits for a client."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._lines: dict[str, Line] = {}
        self._rooms: dict[str, dict[str, Line]] = {}
        self._rooms_of: dict[str, set[str]] = {}

    @property
    def open_lines(self) -> Mapping[str, Line]:
        """Socket id → line."""
        return self._lines

    def open(self, socket_id: str, line: Line) -> None:
        self._lines[socket_id] = line
        self._rooms_of[socket_id] = set()

    def close(self, socket_id: str) -> None:
        for room in self._rooms_of.pop(socket_id, ()):
            self._take_out(socket_id, room)
        self._lines.pop(socket_id, None)

    def enter(self, socket_id: str, room: str) -> None:
        line = self._lines.get(socket_id)
        if line is not None:
            self._rooms.setdefault(room, {})[socket_id] = line
            self._rooms_of[socket_id].add(room)

    def leave(self, socket_id: str, room: str) -> None:
        rooms = self._rooms_of.get(socket_id)
        if rooms is not None and room in rooms:
            rooms.remove(room)
            self._take_out(socket_id, room)

    def is_anybody_in(self, room: str) -> bool:
        return room in self._rooms

    def encoded(self, event: DashboardEvent) -> Message:
        self.traffic.messages_encoded += 1
        return Message(event)

    def tell(self, event: DashboardEvent, room: str) -> None:
        """Send an event to everybody in a room. Who is too far behind for it is marked: see Line.has_missed."""
        members = self._rooms.get(room)
        if members is not None:
            message = self.encoded(event)
            compress_for(members.values(), message)
            for line in members.values():
                _send(line, message)

    def tell_one(self, event: DashboardEvent, socket_id: str) -> None:
        line = self._lines.get(socket_id)
        if line is not None:
            _send(line, self.encoded(event))

    def _take_out(self, socket_id: str, room: str) -> None:
        members = self._rooms[room]
        del members[socket_id]
        if not members:
            del self._rooms[room]


def compress_for(lines: Collection[Line], message: Message) -> None:
    """Compress a message that is about to be sent to these lines, where that is worth it."""
    if not message.is_compressible or len(lines) < COMPRESSED_MIN_LINES:
        return
    if sum(line.takes_compressed for line in lines) >= COMPRESSED_MIN_LINES:
        message.compress()


def _send(line: Line, message: Message) -> None:
    if not line.send(message):
        line.has_missed = True
