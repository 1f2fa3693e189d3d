"""The line to one client: what it has yet to take is bounded, whether it reads or not.

engine.io keeps a queue for each client and puts no bound on it. This one stands in its place, and knows a short cut:
while nothing waits, a message goes to the transport at once, and no task is woken for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from hub_server.gateway.dashboards.message import Message

KIB: Final = 1024
DRAINED_MAX_BYTES: Final = 16 * KIB


class Bounds(Struct, frozen=True, kw_only=True):
    """What a client may leave unread. Beyond `droppable` it misses what is superseded, beyond `held` it is cut off.

    Below each bound one more message or answer is taken, whatever its size. `written_bytes` is what the transport may
    hold before a message has to wait here, `kernel_bytes` what the kernel may hold of a WebSocket.
    """

    written_bytes: int = 64 * KIB
    droppable_bytes: int = 256 * KIB
    droppable_packets: int = 500
    held_bytes: int = 1024 * KIB
    held_packets: int = 2000
    kernel_bytes: int = 256 * KIB


class Traffic(Struct):
    """What all lines together have carried since the start."""

    messages_encoded: int = 0
    messages_sent: int = 0
    messages_compressed: int = 0
    """Of those sent."""
    messages_dropped: int = 0
    bytes_sent: int = 0
    held_bytes_max: int = 0


class Upgraded(Protocol):
    """What a line asks of a WebSocket that carries it."""

    @property
    def is_open(self) -> bool:
        """Whether messages may be written now, past engine.io."""

    @property
    def takes_compressed(self) -> bool:
        """Whether compressed ones may be among them, from its opening to its end."""


class Line(asyncio.Queue[Any]):
    """Holds engine.io packets and Messages; None, engine.io's mark for the end, is always taken."""

    def __init__(self, bounds: Bounds, traffic: Traffic) -> None:
        super().__init__()
        self._bounds = bounds
        self._traffic = traffic
        self._websocket: Upgraded | None = None
        self._bytes_taken = 0
        self._is_asked = False
        self.transport: asyncio.Transport | None = None
        """Its WebSocket's, else where its newest request came from."""
        self.takes_compressed = False
        """Whether the client has agreed to compressed messages."""
        self.bytes_held = 0
        """What was put and not yet written to the end; what the transport has taken over does not count."""
        self.has_missed = False
        """Something droppable was not sent to it since somebody last made up for that."""
        self.is_over = False
        """It left too much unread: nothing is taken for it any more."""
        self.confirms: Callable[[str], bool] = _nothing
        """Told each text that comes in; True when it was understood and nobody else need see it."""

    @property
    def is_drained(self) -> bool:
        """Whether the client has taken all, but for a rest that the transport is about to send."""
        return self._is_asked and self.empty() and self._unwritten_bytes <= DRAINED_MAX_BYTES

    @property
    def is_stuck(self) -> bool:
        """Whether the transport holds what the client does not take."""
        return self._unwritten_bytes > 0

    def polled(self, transport: asyncio.Transport | None) -> None:
        """The client asks by HTTP. Its last request may come after its WebSocket has opened, which stays its way."""
        if self._websocket is None:
            self.transport = transport

    def joined(self, websocket: Upgraded, transport: asyncio.Transport | None) -> None:
        """The client has a WebSocket now."""
        self._websocket = websocket
        self.transport = transport
        self.takes_compressed = websocket.takes_compressed

    def break_off(self) -> None:
        """End the connection without the client's help; one that it polls by is left to who uses it next."""
        self.put_nowait(None)
        if self.transport is not None and (self._websocket is not None or self.is_stuck):
            self.transport.abort()

    def send(self, message: Message) -> bool:
        """Send now, or as soon as the client has taken what came before.

        Returns False when it is too far behind for that; nothing is kept for it then.
        """
        if self._is_clear:
            assert self.transport is not None
            frame = message.frame
            if self.takes_compressed and message.compressed_frame is not None:
                frame = message.compressed_frame
                self._traffic.messages_compressed += 1
            self.transport.write(frame)
            self._traffic.messages_sent += 1
            self._traffic.bytes_sent += len(frame)
            return True
        if message.is_droppable and self._is_full:
            self._traffic.messages_dropped += 1
            return False
        self.put_nowait(message)
        return not self.is_over

    def put_nowait(self, packet: Any) -> None:
        if packet is not None and not self.is_over:
            self.is_over = self.bytes_held >= self._bounds.held_bytes or self.qsize() >= self._bounds.held_packets
        if packet is None or not self.is_over:
            super().put_nowait(packet)

    async def put(self, packet: Any) -> None:
        self.put_nowait(packet)

    async def get(self) -> Any:
        """Whoever asks for more has written all that it got before: engine.io's writer, or the client's next poll."""
        self.bytes_held -= self._bytes_taken
        self._bytes_taken = 0
        self._is_asked = True
        try:
            return await super().get()
        finally:
            self._is_asked = False

    def _put(self, packet: Any) -> None:
        self.bytes_held += _size_of(packet)
        self._traffic.held_bytes_max = max(self._traffic.held_bytes_max, self.bytes_held)
        super()._put(packet)

    def _get(self) -> Any:
        packet = super()._get()
        size = _size_of(packet)
        self._bytes_taken += size
        self._traffic.messages_sent += 1
        self._traffic.bytes_sent += size
        return packet

    @property
    def _is_clear(self) -> bool:
        """Whether nothing is before a message that is written past the queue."""
        return (
            self._is_asked
            and self.empty()
            and self._websocket is not None
            and self._websocket.is_open
            and self.transport is not None
            and not self.transport.is_closing()  # the WebSocket learns later that its client is gone
            and self._unwritten_bytes <= self._bounds.written_bytes
        )

    @property
    def _is_full(self) -> bool:
        bounds = self._bounds
        return (
            self.bytes_held + self._unwritten_bytes >= bounds.droppable_bytes
            or self.qsize() >= bounds.droppable_packets
        )

    @property
    def _unwritten_bytes(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()


def _size_of(packet: Any) -> int:
    """Return about how many bytes a packet has on the wire; engine.io keeps what it has encoded once."""
    if packet is None:
        return 0
    return len(packet.frame) if isinstance(packet, Message) else len(packet.encode())


def _nothing(_text: str) -> bool:
    return False
