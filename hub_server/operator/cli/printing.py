"""What a job writes, on its way to whoever reads this program's own streams.

On a terminal it is hostile text: what a terminal would obey is made visible. Elsewhere bytes pass as they are.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import json
import re
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from hub_server.operator.output import Chunk
from hub_server.terminal.columns import visible
from protocol.commands import CommandView
from protocol.enumerations import OutputStream, TextEncoding

LINE_MAX_CHARS: Final = 16 * 1024
"""A line of one machine among several is cut there, so that none waits for its end for ever."""
_BREAKS: Final = re.compile(r"(\r?\n|\t)")


class Printer(Protocol):
    """Where a job's output goes. Raises OSError when nobody reads it any more."""

    async def begin(self, view: CommandView, /) -> None:
        """The hub has the job, and its output may come."""

    async def chunk(self, chunk: Chunk) -> None: ...

    async def end(self, view: CommandView, /) -> None:
        """The job has ended: nothing more comes."""


class Cleaner:
    """Turns bytes into text that a terminal shows and does not obey; a character may be cut between two chunks."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held_return = ""

    def clean(self, data: bytes, *, is_end: bool = False) -> str:
        text = self._held_return + self._decoder.decode(data, is_end)
        self._held_return = ""
        if text.endswith("\r") and not is_end:  # of a line's end, perhaps
            text, self._held_return = text[:-1], "\r"
        return "".join(_plain(part) for part in _BREAKS.split(text))


class Streams:
    """The streams of this program as they are, for one job."""

    def __init__(self, out: BinaryIO, err: BinaryIO, *, cleaned: Mapping[OutputStream, bool]) -> None:
        """`cleaned`: whether a stream goes to a terminal, and has to be cleaned for it."""
        self._to: Mapping[OutputStream, BinaryIO] = {OutputStream.STDOUT: out, OutputStream.STDERR: err}
        self._cleaners = {stream: Cleaner() for stream, is_cleaned in cleaned.items() if is_cleaned}

    async def begin(self, _view: CommandView, /) -> None:
        """People are told nothing of it."""

    async def chunk(self, chunk: Chunk) -> None:
        await self.put(chunk.stream, chunk.data)

    async def put(self, stream: OutputStream, data: bytes) -> None:
        cleaner = self._cleaners.get(stream)
        await write(self._to[stream], data if cleaner is None else cleaner.clean(data).encode())

    async def end(self, _view: CommandView, /) -> None:
        for stream, cleaner in self._cleaners.items():
            await write(self._to[stream], cleaner.clean(b"", is_end=True).encode())


class NamedLines:
    """Whole lines with the machine's name before them, for one of several jobs."""

    def __init__(self, out: BinaryIO, err: BinaryIO, name: str) -> None:
        self._to: Mapping[OutputStream, BinaryIO] = {OutputStream.STDOUT: out, OutputStream.STDERR: err}
        self._cleaners = {stream: Cleaner() for stream in OutputStream}
        self._begun = dict.fromkeys(OutputStream, "")
        self._prefix = f"{visible(name)} | "

    async def begin(self, _view: CommandView, /) -> None:
        """People are told nothing of it."""

    async def chunk(self, chunk: Chunk) -> None:
        text = self._begun[chunk.stream] + self._cleaners[chunk.stream].clean(chunk.data)
        *lines, rest = text.split("\n")
        while len(rest) > LINE_MAX_CHARS:
            lines.append(rest[:LINE_MAX_CHARS])
            rest = rest[LINE_MAX_CHARS:]
        self._begun[chunk.stream] = rest
        await self._write(chunk.stream, lines)

    async def end(self, _view: CommandView, /) -> None:
        for stream, cleaner in self._cleaners.items():
            rest = self._begun[stream] + cleaner.clean(b"", is_end=True)
            await self._write(stream, [rest] if rest else [])

    async def _write(self, stream: OutputStream, lines: list[str]) -> None:
        await write(self._to[stream], "".join(f"{self._prefix}{line}\n" for line in lines).encode())


class JsonLines:
    """One event a line: output as it comes, and the result."""

    def __init__(self, out: BinaryIO, agent: str) -> None:
        self._out = out
        self._agent = agent
        self._command_id = ""

    async def begin(self, view: CommandView, /) -> None:
        self._command_id = view.id
        await self._say("job", {"command": view})

    async def chunk(self, chunk: Chunk) -> None:
        await self._say("output", {"stream": chunk.stream, "offset": chunk.offset, **text_of(chunk.data)})

    async def end(self, view: CommandView, /) -> None:
        await self._say("result", {"command": view})

    async def _say(self, event: str, fields: Mapping[str, Any]) -> None:
        line = {"event": event, "agent": self._agent, "commandId": self._command_id, **fields}
        await write(self._out, f"{json_text(line)}\n".encode())


def text_of(data: bytes) -> dict[str, str]:
    """Return bytes as the protocol shows them: as text where they are some."""
    try:
        return {"data": data.decode(), "encoding": TextEncoding.UTF8}
    except UnicodeDecodeError:
        return {"data": base64.b64encode(data).decode(), "encoding": TextEncoding.BASE64}


def json_text(value: Any) -> str:
    """Return `value` as JSON of printable characters: it may come to a terminal too."""
    text = msgspec.json.encode(value).decode()
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def own_streams(*, raw: bool) -> Streams:
    cleaned = {
        OutputStream.STDOUT: sys.stdout.isatty() and not raw,
        OutputStream.STDERR: sys.stderr.isatty() and not raw,
    }
    return Streams(sys.stdout.buffer, sys.stderr.buffer, cleaned=cleaned)


async def write(to: BinaryIO, data: bytes) -> None:
    """Write all of `data`. A reader that is slow holds up its job's output, and nothing else of this program."""
    if data:
        await asyncio.to_thread(_write, to, data)


def _write(to: BinaryIO, data: bytes) -> None:
    to.write(data)
    to.flush()


def _plain(part: str) -> str:
    """Return a tab and an end of line as they are, all else made visible."""
    if part == "\t":
        return part
    return "\n" if part in {"\n", "\r\n"} else visible(part)
