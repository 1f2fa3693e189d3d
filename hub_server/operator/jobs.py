"""A job of a machine, as whoever asked for it or watches it sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol

from hub_server.operator.errors import OutputMissing
from hub_server.operator.output import Arrivals, Chunk
from hub_server.operator.packets import AnyReply
from protocol.commands import (
    CommandReply,
    CommandsCancel,
    CommandsGet,
    CommandsOutput,
    CommandsOutputReply,
    CommandView,
)
from protocol.enumerations import CommandStatus, OutputStream
from protocol.requests import Request

ENDED: Final = frozenset({CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.CANCELLED})
ASK_DEADLINE_SECONDS: Final = 30.0
AWAY_MAX_SECONDS: Final = 15 * 60.0
"""How long a hub may be away before the client gives up; whoever follows a job waits as long."""
ASKED_EVERY_SECONDS: Final = 10.0
"""Without news the hub is asked all the same: it drops events for a client that does not read."""
FIRST_PAUSE_SECONDS: Final = 0.05
PAUSE_MAX_SECONDS: Final = 1.0
REST_DEADLINE_SECONDS: Final = 60.0
"""How long a hub may take to give the rest of what an ended job wrote."""


class Following(Protocol):
    """Told what the hub says of one job. Nothing here may take long."""

    def heard(self, chunk: Chunk) -> None: ...

    def ended(self) -> None:
        """The job has ended."""

    def missed(self) -> None:
        """Events may have gone by unheard; also said when the client itself is over."""


class Asking(Protocol):
    """What a job needs of the client."""

    async def ask(
        self,
        operation: str,
        request: Request,
        reply_type: type[AnyReply],
        *,
        deadline_seconds: float = ASK_DEADLINE_SECONDS,
    ) -> AnyReply: ...

    def following(self, command_id: str, following: Following) -> AbstractContextManager[None]: ...


class Job:
    """`view`: the newest that is known of it."""

    def __init__(self, hub: Asking, view: CommandView) -> None:
        self._hub = hub
        self.view = view

    @property
    def id(self) -> str:
        return self.view.id

    @property
    def agent_id(self) -> str:
        return self.view.agent_id

    @property
    def has_ended(self) -> bool:
        return self.view.status in ENDED

    async def refresh(self, *, deadline_seconds: float = ASK_DEADLINE_SECONDS) -> CommandView:
        request = CommandsGet(command_id=self.id)
        return self._noted(
            await self._hub.ask("commands:get", request, CommandReply, deadline_seconds=deadline_seconds)
        )

    async def cancel(self) -> CommandView:
        """Ask for its end: what waits ends at once, what runs is told by its machine. Raises Refused."""
        return self._noted(await self._hub.ask("commands:cancel", CommandsCancel(command_id=self.id), CommandReply))

    async def result(self) -> CommandView:
        """Return the job once it has ended, however long that takes: it has a deadline of its own."""
        news = _EndWatch()
        with self._hub.following(self.id, news):
            while not self.has_ended:
                view = await self.refresh(deadline_seconds=AWAY_MAX_SECONDS)
                if view.status not in ENDED:
                    await news.wait()
        return self.view

    async def output(self, offsets: Mapping[OutputStream, int] | None = None) -> AsyncIterator[Chunk]:
        """Yield what the job writes until it has ended and all of it was given, from `offsets` on, or all of it.

        Every byte comes once, in the order of its stream, also over a lost connection and a hub that starts again.
        Raises OutputMissing, and what `ask` raises.
        """
        reading = _Reading(Arrivals(offsets))
        with self._hub.following(self.id, reading):
            while not reading.arrivals.is_over:
                chunk = reading.arrivals.take() or await self._asked_for(reading)
                if chunk is not None:
                    reading.progressed()
                    yield chunk
                elif not reading.arrivals.is_over:
                    await reading.wait()

    async def _asked_for(self, reading: _Reading) -> Chunk | None:
        """Ask the hub for what events do not bring; None when there is nothing now."""
        while (stream := reading.arrivals.asking()) is not None:
            request = CommandsOutput(command_id=self.id, stream=stream, offset=reading.arrivals.next_offset(stream))
            reply = await self._hub.ask(
                "commands:output", request, CommandsOutputReply, deadline_seconds=AWAY_MAX_SECONDS
            )
            chunk = reading.given(reply)
            if chunk is not None:
                return chunk
        return None

    def _noted(self, reply: CommandReply) -> CommandView:
        self.view = reply.command
        return self.view


class _EndWatch:
    """Wakes when the job has ended, or might have."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    async def wait(self) -> None:
        """Return with news, or when it is time to ask again."""
        await _until(self._woken, ASKED_EVERY_SECONDS)

    def heard(self, chunk: Chunk) -> None:
        """Output says nothing of the end."""

    def ended(self) -> None:
        self._woken.set()

    def missed(self) -> None:
        self._woken.set()


class _Reading:
    """One reader of a job's output, and how long it waits when there is nothing to read."""

    def __init__(self, arrivals: Arrivals) -> None:
        self.arrivals = arrivals
        self._news = asyncio.Event()
        self._has_ended = False
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._waited_seconds = 0.0

    def heard(self, chunk: Chunk) -> None:
        self.arrivals.note(chunk)
        self._news.set()

    def ended(self) -> None:
        self._has_ended = True
        self.missed()

    def missed(self) -> None:
        self.arrivals.note_missed()
        self._news.set()

    def given(self, reply: CommandsOutputReply) -> Chunk | None:
        """Raises OutputMissing for a page that cannot be read."""
        try:
            return self.arrivals.give(reply)
        except ValueError as error:
            raise OutputMissing(f"the hub's page of output is not understood: {error}") from error

    def progressed(self) -> None:
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._waited_seconds = 0.0

    async def wait(self) -> None:
        """Wait for events, or for what the hub is about to have. Raises OutputMissing when that takes too long."""
        if self._has_ended or self.arrivals.is_gapped:  # the hub told of more than it gives when it is asked
            await self._wait_for_the_rest()
            return
        if not await _until(self._news, ASKED_EVERY_SECONDS):
            self.arrivals.note_missed()

    async def _wait_for_the_rest(self) -> None:
        if self._waited_seconds > REST_DEADLINE_SECONDS:
            raise OutputMissing("the hub told of output that it does not give; see `jtnt job ID --output` later")
        await asyncio.sleep(self._pause_seconds)
        self._waited_seconds += self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, PAUSE_MAX_SECONDS)
        if self._has_ended:
            self.arrivals.note_missed()


async def _until(news: asyncio.Event, seconds: float) -> bool:
    """Return whether there was news within the time."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    news.clear()
    return True
