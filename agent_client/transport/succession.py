"""One session after the other, without a gap: the next is welcomed before the one before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import NoReturn

from msgspec import Struct

from agent_client.cancellation import check_cancelled
from agent_client.errors import AgentError
from agent_client.renewal.pairs import Pair
from agent_client.renewal.papers import Papers
from agent_client.renewal.renewal import RenewalFailed
from agent_client.transport.endings import summary_of, turns_down_certificate
from agent_client.transport.session import Session
from agent_client.transport.socket import SessionEnded

Greet = Callable[[Pair], AbstractAsyncContextManager[Session]]


class _Held(Struct, eq=False):
    """A welcomed session, and what closes its socket."""

    session: Session
    closing: AsyncExitStack


class Succession:
    """Holds a session and renews the certificate meanwhile. Each new certificate brings a session of its own."""

    def __init__(self, papers: Papers, greet: Greet, took_over: Callable[[Session], None]) -> None:
        self._papers = papers
        self._greet = greet
        self._took_over = took_over

    async def run(self, pair: Pair) -> NoReturn:
        """Begin with `pair`. Raises SessionEnded when the session that speaks has ended, or none came about."""
        held = await self._open(pair)
        try:
            while True:
                self._took_over(held.session)
                following = await self._hold(held.session)
                await held.closing.aclose()
                held = following
        finally:
            await held.closing.aclose()

    async def _hold(self, session: Session) -> _Held:
        """Let `session` flow until the one with the next certificate was welcomed; return that one.

        Then `session` has been retired, and all that the hub said on it was heard.
        """
        following: _Held | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(session.run(), name="session")
                following = await self._following(session)
                session.retire(following.session)
        except ExceptionGroup as group:
            try:
                check_cancelled(group)
                end = _end_of(group)
                if following is None or not isinstance(end, SessionEnded):
                    raise end from group
            except BaseException:
                await _closed(following)
                raise
        except BaseException:
            await _closed(following)
            raise
        return following

    async def _following(self, session: Session) -> _Held:
        """Wait until the certificate is to be renewed; return a welcomed session with the new one."""
        renewal, facts = self._papers.renewal, session.pair.facts
        while True:
            await renewal.due(facts)
            try:
                pair = await renewal.obtain(session.ask_certificate)
                renewal.changing()
                return await self._open(pair)
            except SessionEnded as end:
                is_final = turns_down_certificate(end.ending)
                renewal.failed(facts, summary_of(end.ending)[1], is_final=is_final)
            except RenewalFailed as error:
                renewal.failed(facts, str(error), is_final=error.is_final)
            except AgentError as error:
                renewal.failed(facts, str(error), is_final=False)

    async def _open(self, pair: Pair) -> _Held:
        closing = AsyncExitStack()
        try:
            return _Held(await closing.enter_async_context(self._greet(pair)), closing)
        except BaseException:
            await closing.aclose()
            raise


async def _closed(held: _Held | None) -> None:
    if held is not None:
        await held.closing.aclose()


def _end_of(group: ExceptionGroup[Exception]) -> Exception:
    """Return the one reason a session ended for; a fault that is no ending goes first."""
    _, faults = group.split(SessionEnded)
    return faults or group.exceptions[0]
