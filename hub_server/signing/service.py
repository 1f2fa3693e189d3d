"""The hub's side of its signer: the one way to a signature."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar, cast

import msgspec
import structlog

from hub_server.errors import HubError, InvalidRequest, KeysRefused, RateLimited, Unavailable
from hub_server.signing.model import (
    Adopt,
    Answer,
    BadMessage,
    Frames,
    Make,
    Question,
    Ready,
    Refusal,
    Refused,
    Sealed,
    Sign,
    Signed,
    Terms,
    answer_of,
    frame_of,
)

START_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 0.5
WAITING_MAX: Final = 4096
_MODULE: Final = "hub_server.signing"
_AWAY: Final = "the signer of commands is not there at the moment; try again in a few seconds"

T = TypeVar("T", Signed, Sealed)
log = structlog.get_logger(component="signer")


class Signer:
    """Starts the process of its own, or reaches the one that listens at `listens_at`, when it is first asked.

    A process that is lost is started again by the next question, or by the worker.
    """

    def __init__(self, terms: Terms, *, listens_at: Path | None = None, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._terms = terms
        self._listens_at = listens_at
        self._answer_seconds = answer_seconds
        self._line: _Line | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._opening = asyncio.Lock()
        self._not_before_monotonic = 0.0
        self._number = 0

    @property
    def pid(self) -> int | None:
        """Return the process that signs, None while there is none."""
        return None if self._line is None or self._line.is_lost else self._line.pid

    async def sign(self, key_id: str, sealed: bytes, payload: bytes) -> bytes:
        """Return the signature of a JobEnvelope's bytes.

        Raises InvalidRequest when it is none that may be signed, RateLimited, Unavailable.
        """
        try:
            return (await self._asked(Sign(self._next(), key_id, sealed, payload), Signed)).signature
        except KeysRefused as error:
            log.error("commands cannot be signed", why=str(error))
            raise Unavailable("commands cannot be signed at the moment; the hub's log says why") from error

    async def make(self) -> tuple[bytes, bytes]:
        """Return a new key: the 32 bytes of its public half, and the private one sealed. Raises KeysRefused."""
        answer = await self._asked(Make(self._next()), Sealed)
        return answer.public_key, answer.sealed

    async def adopt(self, private_key: bytes) -> tuple[bytes, bytes]:
        """Return what `make` does for a key that the main process had: 32 bytes. Raises KeysRefused."""
        answer = await self._asked(Adopt(self._next(), private_key), Sealed)
        return answer.public_key, answer.sealed

    async def ready(self) -> None:
        """Return once the signer answers. Raises KeysRefused, Unavailable."""
        await self._opened()

    async def lost(self) -> None:
        """Return once the signer that was ready is not there any more."""
        if self._line is not None:
            await self._line.lost.wait()

    async def close(self) -> None:
        """End the process that was started here."""
        async with self._opening:
            await self._end()

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _asked(self, question: Question, kind: type[T]) -> T:
        line = await self._opened()
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await line.ask(question)
        except TimeoutError:
            log.error("signer does not answer; it is started again", pid=line.pid)
            line.drop()
            if self._process is not None:
                self._process.kill()
            raise Unavailable(_AWAY, retry_after_seconds=1) from None
        except ConnectionError as error:
            raise Unavailable(_AWAY, retry_after_seconds=1) from error
        if isinstance(answer, kind):
            return answer
        raise _refusal_of(answer)

    async def _opened(self) -> _Line:
        line = self._line
        if line is not None and not line.is_lost:
            return line
        async with self._opening:
            if self._line is None or self._line.is_lost:
                if time.monotonic() < self._not_before_monotonic:
                    raise Unavailable(_AWAY, retry_after_seconds=1)
                await self._end()
                try:
                    self._line = await self._reached()
                finally:
                    self._not_before_monotonic = time.monotonic() + AGAIN_SECONDS
            return self._line

    async def _reached(self) -> _Line:
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await (self._called() if self._listens_at else self._started())
                first = await line.first()
        except (OSError, TimeoutError) as error:
            await self._end()
            where = f"does not answer at {self._listens_at}" if self._listens_at else "could not be started"
            log.error("signer not reached", why=str(error), where=where)
            raise Unavailable(f"the signer of commands {where}", retry_after_seconds=1) from error
        if not isinstance(first, Ready):
            await self._end()
            raise _refusal_of(first)
        line.pid = first.pid
        return line

    async def _called(self) -> _Line:
        _, line = await asyncio.get_running_loop().create_unix_connection(_Line, str(self._listens_at))
        return line

    async def _started(self) -> _Line:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.to_thread(_spawned, self._terms, theirs)
            _, line = await asyncio.get_running_loop().create_unix_connection(_Line, sock=ours)
        except BaseException:
            ours.close()
            raise
        return line

    async def _end(self) -> None:
        """Close the line; the process that was started here ends by that, or is killed."""
        if self._line is not None:
            self._line.drop()
            self._line = None
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_reaped, process)


class _Line(asyncio.Protocol):
    """A connection to the signer. Answers come in any order and are known by their number."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.pid: int | None = None
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {0: asyncio.get_running_loop().create_future()}

    @property
    def is_lost(self) -> bool:
        return self.lost.is_set()

    async def first(self) -> Answer:
        """Return what the signer says before it is asked. Raises ConnectionError."""
        try:
            return await self._waiting[0]
        except BaseException:  # its process ends with the line, and would be waited for
            self.drop()
            raise

    async def ask(self, question: Question) -> Answer:
        """Raises ConnectionError when the line is lost before the answer."""
        if self.is_lost or len(self._waiting) >= WAITING_MAX or self._transport is None:
            raise ConnectionError("the signer's line is closed or full")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[question.number] = answer
        try:
            self._transport.write(frame_of(question))
            return await answer
        finally:
            self._waiting.pop(question.number, None)

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of a socket, always

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                answer = answer_of(body)
                number = 0 if isinstance(answer, Ready) else answer.number
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except BadMessage as error:
            log.error("signer says what cannot be read", why=str(error))
            self.drop()

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the signer's line was lost"))
                waiting.exception()  # retrieved, for nobody may be waiting any more


def _spawned(terms: Terms, standard_input: socket.socket) -> subprocess.Popen[bytes]:
    """Start the signer in a session of its own, without the settings of the hub in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JTNT_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", _MODULE, msgspec.json.encode(terms).decode()],
        stdin=standard_input.fileno(),
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def _reaped(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def _refusal_of(answer: Answer) -> HubError | KeysRefused:
    if not isinstance(answer, Refused):
        return Unavailable("the signer of commands is of another version than the hub; restart both")
    match answer.refusal:
        case Refusal.ORDER:
            return InvalidRequest(answer.message)
        case Refusal.RATE:
            return RateLimited(answer.message, retry_after_seconds=answer.retry_after_seconds)
        case Refusal.KEYS:
            return KeysRefused(answer.message)
        case Refusal.LOG:
            return Unavailable(answer.message, retry_after_seconds=1)
