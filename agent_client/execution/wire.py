"""What the daemon and the executor say to each other: JSON behind its length, on a Unix socket."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final, Generic, TypeVar, Union

import msgspec
from msgspec import Struct

from agent_client.config import AckSeconds
from agent_client.errors import AgentError
from protocol.frames import (
    Command,
    CommandAccepted,
    CommandCancel,
    CommandOutput,
    CommandOutputAck,
    CommandQuery,
    CommandResult,
    CommandResultAck,
    CommandStarted,
    CommandState,
    JobProgress,
)

MESSAGE_MAX_BYTES: Final = 2 * 1024 * 1024
UNSENT_MAX_BYTES: Final = 4 * 1024 * 1024
SEND_SECONDS: Final = 60.0
_LENGTH_BYTES: Final = 4

JobReport = CommandAccepted | CommandStarted | CommandOutput | CommandResult | CommandState
JobFrame = Command | CommandOutputAck | CommandResultAck | CommandCancel | CommandQuery


class ChannelLost(AgentError):
    """The other side is gone, or says what cannot be understood."""

    code: ClassVar[str] = "channel_lost"


class NotUnderstood(ChannelLost):
    """The other side says what is no message, or one out of its bounds; the message names the value."""

    code: ClassVar[str] = "channel_not_understood"


class Begin(Struct, frozen=True, tag="begin"):
    """A session with the hub is up. `said`: what its `hello` told of jobs; `held_open`: the jobs the hub holds open."""

    session: int
    said: list[JobProgress]
    held_open: list[str]
    window: int
    ack_timeout_seconds: AckSeconds


class End(Struct, frozen=True, tag="end"):
    """The session is over: nothing that was said in it counts as heard."""

    session: int


class Carry(Struct, frozen=True, tag="carry"):
    """A frame of the hub about a job."""

    frame: JobFrame


class Ask(Struct, frozen=True, tag="ask"):
    """How do things stand? Answered by Standing with the same number."""

    number: int


class Standing(Struct, frozen=True, tag="standing"):
    """How many jobs run, how many the hub does not hold the result of, and these; `number` 0 when nobody asked."""

    number: int
    running: int
    unreported: int
    jobs: list[JobProgress]


class Say(Struct, frozen=True, tag="say"):
    """A frame for the hub. `session`: in this session or not at all; 0 for one that any session may carry."""

    session: int
    frame: JobReport


class Logged(Struct, frozen=True, tag="logged"):
    """A line for the daemon's log."""

    level: int
    component: str
    phrase: str
    fields: dict[str, Any]


class Restart(Struct, frozen=True, tag="restart"):
    """The daemon is to end in order and begin anew."""


ToExecutor = Union[Begin, End, Carry, Ask]  # noqa: UP007
ToDaemon = Union[Standing, Say, Logged, Restart]  # noqa: UP007
_Heard = TypeVar("_Heard")

to_executor: Final[msgspec.json.Decoder[ToExecutor]] = msgspec.json.Decoder(ToExecutor)
to_daemon: Final[msgspec.json.Decoder[ToDaemon]] = msgspec.json.Decoder(ToDaemon)
_encoder: Final = msgspec.json.Encoder(enc_hook=str)


class Channel(Generic[_Heard]):
    """One end of the socket. Whoever has it closes it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: msgspec.json.Decoder[_Heard]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder

    async def hear(self) -> _Heard:
        """Wait for the next message, without a deadline. Raises ChannelLost or NotUnderstood."""
        try:
            size = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if size > MESSAGE_MAX_BYTES:
                raise NotUnderstood(f"a message of {size} bytes; the limit is {MESSAGE_MAX_BYTES}")
            return self._decoder.decode(await self._reader.readexactly(size))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ChannelLost("the other side is gone") from error
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise NotUnderstood(f"a message is not understood: {error}") from error

    def say(self, message: ToExecutor | ToDaemon) -> None:
        """Send without waiting. Raises ChannelLost when the other side has not read for a long time."""
        if self._writer.transport.get_write_buffer_size() > UNSENT_MAX_BYTES:
            raise ChannelLost("the other side does not read")
        encoded = _encoder.encode(message)
        self._writer.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)

    async def tell(self, message: ToExecutor | ToDaemon) -> None:
        """Send, and wait until the other side has read most of it. Raises ChannelLost."""
        self.say(message)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise ChannelLost("the other side does not read") from None
        except OSError as error:
            raise ChannelLost("the other side is gone") from error

    def close(self) -> None:
        self._writer.close()
