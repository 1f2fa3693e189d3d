"""A job's output on disk: its beginning and its end, bounded, readable from any byte offset until the hub holds it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent_client.execution.tail import Tail
from agent_client.store.secure import FILE_MODE, SecureStore, StoreError
from protocol.enumerations import OutputStream, TextEncoding
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES

CHUNK_MAX_BYTES: Final = OUTPUT_CHUNK_MAX_BYTES
GAP_MAX_BYTES: Final = 64
_ESCAPED_MAX_BYTES: Final = 3 * CHUNK_MAX_BYTES
_ESCAPE_LENGTH: Final = 6
_UTF8_SEQUENCE_MAX_BYTES: Final = 4
_sync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


class Chunk(NamedTuple):
    """`length_bytes` of output as text; `encoding` says how."""

    data: str
    encoding: TextEncoding
    length_bytes: int


class Capture:
    """Both output streams of one job. `limit_bytes` bounds them together.

    The first half of the limit is kept as it comes. What follows goes to a ring of the size of the other half, one a
    stream; `finish` appends what the rings hold then, after a line that says how much was left out between.

    `sizes` counts what can be read of each stream, `written` all that the process wrote. `notify` is called after each
    write that can be read. Files are made at the first byte; those of a life before this one are taken up, without
    what was in its rings. The owner closes it, and discards it when the hub holds the result.
    """

    def __init__(self, directory: Path, command_id: str, limit_bytes: int) -> None:
        self.truncated = False
        self.notify: Callable[[], None] = _nobody
        self._directory = directory
        self._paths = {stream: directory / f"{command_id}.{stream.value}" for stream in OutputStream}
        self._files: dict[OutputStream, FileIO] = {}
        self.sizes = {stream: path.stat().st_size for stream, path in self._paths.items() if path.exists()}
        self.written = dict(self.sizes)
        self._tail_bytes = limit_bytes // 2 if limit_bytes >= 2 * GAP_MAX_BYTES * len(OutputStream) else 0
        self._left_bytes = max(limit_bytes - self._tail_bytes - sum(self.sizes.values()), 0)
        self._tails: dict[OutputStream, Tail] = {}
        for path in self._paths.values():
            with suppress(FileNotFoundError):
                _tail_path(path).unlink()
                self.truncated = True

    def compare(self, written: Mapping[OutputStream, int]) -> None:
        """Take note of what the process wrote in a life before this one; a power cut may have left less of it."""
        self.written = dict(written)
        self.truncated = self.truncated or any(self.sizes.get(stream, 0) < size for stream, size in written.items())

    def write(self, stream: OutputStream, data: bytes) -> None:
        """Keep of `data` what the limit and the disk allow."""
        self.written[stream] = self.written.get(stream, 0) + len(data)
        if self.truncated:
            return
        kept = data[: self._left_bytes]
        try:
            if kept:
                self._append(stream, kept)
                self.notify()
            if rest := data[len(kept) :]:
                self._keep_end(stream, rest)
        except (OSError, StoreError):  # a full disk ends the capture, not the job
            self.truncated = True

    def is_full(self) -> bool:
        """Tell whether nothing of further output can be read before the process has ended."""
        return self.truncated or not self._left_bytes

    def finish(self) -> None:
        """The process has ended: append what the rings hold."""
        held = {stream: tail.held_bytes for stream, tail in self._tails.items()}
        for stream, tail in self._tails.items():
            others = sum(held.values()) - held[stream]
            share = max(self._tail_bytes - others, self._tail_bytes // len(OutputStream))
            try:
                self._append_end(stream, tail, share)
            except (OSError, StoreError):
                self.truncated = True
            tail.discard()
        self._tails.clear()

    def sync(self) -> None:
        """Let what can be read outlive a power cut. Blocks for the time of an fsync a stream."""
        try:
            for stream in self.sizes:
                _sync(self._file(stream).fileno())
            if self.sizes:
                SecureStore(self._directory).sync()
        except (OSError, StoreError):
            self.truncated = True

    def _append_end(self, stream: OutputStream, tail: Tail, share_bytes: int) -> None:
        """Append the end of a stream, at most `share_bytes`, with the line about what is missing before it."""
        missing = self.written[stream] - self.sizes.get(stream, 0) - tail.held_bytes
        if not missing and tail.held_bytes <= share_bytes:
            self._append(stream, tail.newest(share_bytes))
            return
        self.truncated = True
        end = _from_character(tail.newest(share_bytes - GAP_MAX_BYTES))
        missing = self.written[stream] - self.sizes.get(stream, 0) - len(end)
        self._append(stream, f"\n[… {missing} bytes left out …]\n".encode() + end)

    def _keep_end(self, stream: OutputStream, data: bytes) -> None:
        if not self._tail_bytes:
            self.truncated = True
            return
        if stream not in self._tails:
            SecureStore(self._directory).prepare()
            self._tails[stream] = Tail(_tail_path(self._paths[stream]), self._tail_bytes)
        self._tails[stream].write(data)

    def _append(self, stream: OutputStream, data: bytes) -> None:
        """Raises OSError when the disk does not take all of it; what it took counts."""
        written = self._file(stream).write(data)
        self.sizes[stream] = self.sizes.get(stream, 0) + written
        self._left_bytes = max(self._left_bytes - written, 0)
        if written < len(data):
            raise OSError(f"only {written} of {len(data)} bytes were written")

    def read(self, stream: OutputStream, offset: int, *, is_complete: bool) -> Chunk | None:
        """Return the chunk that begins at `offset`, None when there is none yet.

        UTF-8 stays text: a character that is not whole yet waits for its rest unless the stream `is_complete`. What the
        disk does not give back ends the stream there, and counts as `truncated`.
        """
        if offset >= self.sizes.get(stream, 0):
            return None
        data = self._bytes_at(stream, offset)
        if not data:
            self.truncated = True
            self.sizes[stream] = offset
            if tail := self._tails.pop(stream, None):
                tail.discard()
            return None
        return as_chunk(data, is_last=is_complete)

    def _bytes_at(self, stream: OutputStream, offset: int) -> bytes:
        try:
            file = self._file(stream)
            file.seek(offset)
            return file.read(CHUNK_MAX_BYTES)
        except (OSError, StoreError):
            return b""

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        for tail in self._tails.values():
            tail.close()

    def discard(self) -> None:
        """Close, and remove the files; nothing can be read any more."""
        self.close()
        self.sizes.clear()
        for path in self._paths.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)
                _tail_path(path).unlink(missing_ok=True)

    def _file(self, stream: OutputStream) -> FileIO:
        if stream not in self._files:
            SecureStore(self._directory).prepare()
            self._files[stream] = FileIO(self._paths[stream], "a+", opener=_open_private)
        return self._files[stream]


def remove_strays(directory: Path, command_ids: Collection[str]) -> None:
    """Remove the output of all other jobs: a crash came between an acknowledgement and its removal."""
    for path in directory.glob("*.std*"):
        if path.stem not in command_ids:
            path.unlink(missing_ok=True)


def as_chunk(data: bytes, *, is_last: bool) -> Chunk | None:
    """Return the longest prefix of `data` to send, None when all of it is the beginning of one character.

    What is no UTF-8, what the wire refuses (a NUL), and text that JSON would make too long for a frame (control
    characters) goes as base64.
    """
    if b"\0" in data:
        return _binary(data)
    try:
        return _text(data)
    except UnicodeDecodeError as error:
        is_cut = error.end == len(data) and len(data) - error.start < _UTF8_SEQUENCE_MAX_BYTES
        if not is_cut or error.reason != "unexpected end of data":
            return _binary(data)
        whole = data[: error.start]
    if whole:
        return _text(whole)
    return _binary(data) if is_last else None


def _text(data: bytes) -> Chunk:
    text = data.decode()
    if len(data) > _ESCAPED_MAX_BYTES // _ESCAPE_LENGTH and len(msgspec.json.encode(text)) > _ESCAPED_MAX_BYTES:
        return _binary(data)
    return Chunk(text, TextEncoding.UTF8, len(data))


def _binary(data: bytes) -> Chunk:
    return Chunk(base64.b64encode(data).decode(), TextEncoding.BASE64, len(data))


def _from_character(data: bytes) -> bytes:
    """Return `data` without the rest of a UTF-8 character that it may begin with."""
    start = 0
    while start < min(len(data), _UTF8_SEQUENCE_MAX_BYTES - 1) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]


def _tail_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.tail")


def _nobody() -> None:
    """Nobody waits for output yet."""


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
