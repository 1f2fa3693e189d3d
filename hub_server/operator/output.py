"""A job's output as one reader has it: every byte once, in the order of its stream, however it came. Pure.

Events bring bytes as they come, and may be missing, repeated or ahead; `commands:output` brings them from any offset.
A stream is *stale* while the hub has to be asked: at the start, after a connection was lost, at a gap, and when events
came faster than they were read. What events brought is held up to a bound; beyond it all is let go and asked for.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, structs

from protocol.commands import CommandsOutputReply
from protocol.enumerations import OutputStream, TextEncoding
from protocol.events import AgentCommandOutput
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES

HELD_MAX_BYTES: Final = 1024 * 1024
HELD_MAX_CHUNKS: Final = 1024
PAGE_FULL_BYTES: Final = OUTPUT_CHUNK_MAX_BYTES - 8
"""A page of at least so many bytes may have been cut, at a whole character: there may be more."""


class Chunk(Struct, frozen=True):
    """Bytes of one stream from `offset` on."""

    stream: OutputStream
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


def chunk_of(shown: AgentCommandOutput | CommandsOutputReply) -> Chunk:
    """Raises ValueError for data that are not base64 though they say so."""
    if shown.encoding is TextEncoding.BASE64:
        return Chunk(shown.stream, shown.offset, base64.b64decode(shown.data, validate=True))
    return Chunk(shown.stream, shown.offset, shown.data.encode())


class Arrivals:
    def __init__(self, offsets: Mapping[OutputStream, int] | None = None) -> None:
        """`offsets`: from where on the reader wants each stream; from its start where there is none."""
        wanted = offsets or {}
        self._next = {stream: wanted.get(stream, 0) for stream in OutputStream}
        self._held: deque[Chunk] = deque(maxlen=HELD_MAX_CHUNKS)
        self._held_bytes = 0
        self._stale = set(OutputStream)
        self._complete: set[OutputStream] = set()

    @property
    def is_over(self) -> bool:
        """Whether the reader has all there will ever be."""
        return len(self._complete) == len(OutputStream)

    @property
    def is_gapped(self) -> bool:
        """Whether something is missing before what events brought."""
        return bool(self._held) and self._held[0].offset > self._next[self._held[0].stream]

    def next_offset(self, stream: OutputStream) -> int:
        return self._next[stream]

    def asking(self) -> OutputStream | None:
        """Return the stream of which the hub is to be asked the rest, None when events will do."""
        return next((stream for stream in OutputStream if stream in self._stale), None)

    def note(self, chunk: Chunk) -> None:
        """An event brought this."""
        if chunk.end <= self._next[chunk.stream]:
            return
        if self._held_bytes + len(chunk.data) > HELD_MAX_BYTES or len(self._held) == HELD_MAX_CHUNKS:
            self._held.clear()
            self._held_bytes = 0
            self.note_missed()
            return
        self._held.append(chunk)
        self._held_bytes += len(chunk.data)

    def note_missed(self) -> None:
        """Events may have gone by unheard, or the job has ended: the hub has to be asked what is behind them."""
        self._stale = set(OutputStream) - self._complete

    def take(self) -> Chunk | None:
        """Return what comes next of what events brought; None when there is nothing, or something is missing before
        it: `asking` then names its stream.
        """
        while self._held:
            first = self._held[0]
            expected = self._next[first.stream]
            if self.is_gapped:
                self._stale.add(first.stream)
                return None
            self._held.popleft()
            self._held_bytes -= len(first.data)
            if first.end > expected:
                self._next[first.stream] = first.end
                return Chunk(first.stream, expected, first.data[expected - first.offset :])
        return None

    def give(self, reply: CommandsOutputReply) -> Chunk | None:
        """Take a page that was asked for; return what is new in it. Raises ValueError for data that are none."""
        chunk, expected = chunk_of(reply), self._next[reply.stream]
        self._next[reply.stream] = max(expected, chunk.end, reply.next_offset)
        if reply.complete:
            self._complete.add(reply.stream)
        if reply.complete or len(chunk.data) < PAGE_FULL_BYTES:
            self._stale.discard(reply.stream)
        if not chunk.data or chunk.end <= expected:
            return None
        return (
            chunk
            if chunk.offset >= expected
            else structs.replace(chunk, offset=expected, data=chunk.data[expected - chunk.offset :])
        )
