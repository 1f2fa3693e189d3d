"""A job's output on disk: bounded, readable from any byte offset, there until the hub holds the result."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent_client.store.secure import FILE_MODE, SecureStore
from protocol.enumerations import OutputStream, TextEncoding
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES

CHUNK_MAX_BYTES: Final = OUTPUT_CHUNK_MAX_BYTES
_ESCAPED_MAX_BYTES: Final = 3 * CHUNK_MAX_BYTES
_ESCAPE_LENGTH: Final = 6
_UTF8_SEQUENCE_MAX_BYTES: Final = 4


class Chunk(NamedTuple):
    """`length_bytes` of output as text; `encoding` says how."""

    data: str
    encoding: TextEncoding
    length_bytes: int


class Capture:
    """Both output streams of one job. `limit_bytes` bounds them together; what is beyond it is discarded and said.

    `sizes` counts what is kept of each stream, `written` all that the process wrote.

    `notify` is called after each write. Files are made at the first byte; those that a daemon before this one left are
    taken up. The owner closes it, and discards it when the hub holds the result.
    """

    def __init__(self, directory: Path, command_id: str, limit_bytes: int) -> None:
        self.truncated = False
        self.notify: Callable[[], None] = _nobody
        self._directory = directory
        self._paths = {stream: directory / f"{command_id}.{stream.value}" for stream in OutputStream}
        self._files: dict[OutputStream, FileIO] = {}
        self.sizes = {stream: path.stat().st_size for stream, path in self._paths.items() if path.exists()}
        self.written = dict(self.sizes)
        self._left_bytes = max(limit_bytes - sum(self.sizes.values()), 0)

    def write(self, stream: OutputStream, data: bytes) -> None:
        """Keep as much of `data` as the limit and the disk allow."""
        self.written[stream] = self.written.get(stream, 0) + len(data)
        if self.truncated:
            return
        kept = data[: self._left_bytes]
        self.truncated = len(kept) < len(data)
        if not kept:
            return
        try:
            written = self._file(stream).write(kept)
        except OSError:  # a full disk ends the capture, not the job
            self.truncated = True
            return
        self._left_bytes -= written
        self.sizes[stream] = self.sizes.get(stream, 0) + written
        self.truncated = self.truncated or written < len(kept)
        self.notify()

    def read(self, stream: OutputStream, offset: int, *, is_complete: bool) -> Chunk | None:
        """Return the chunk that begins at `offset`, None when there is none yet.

        UTF-8 stays text: a character that is not whole yet waits for its rest unless the stream `is_complete`.
        """
        if offset >= self.sizes.get(stream, 0):
            return None
        file = self._file(stream)
        file.seek(offset)
        return as_chunk(file.read(CHUNK_MAX_BYTES), is_last=is_complete)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def discard(self) -> None:
        """Close, and remove the files."""
        self.close()
        for path in self._paths.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _file(self, stream: OutputStream) -> FileIO:
        if stream not in self._files:
            SecureStore(self._directory).prepare()
            self._files[stream] = FileIO(self._paths[stream], "a+", opener=_open_private)
        return self._files[stream]


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


def _nobody() -> None:
    """Nobody waits for output yet."""


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
