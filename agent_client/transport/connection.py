"""The connection loop: attempt, session, wait, for as long as the agent runs. It never gives up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NoReturn

from agent_client.backoff import PersonNeeded, Wait, next_wait
from agent_client.config import Config
from agent_client.logs import Log
from agent_client.paths import Places
from agent_client.renewal.pairs import Pair
from agent_client.renewal.papers import Papers
from agent_client.store.secure import StoreError
from agent_client.transport.absences import Absences
from agent_client.transport.endings import (
    ABNORMAL_CLOSURE,
    Closed,
    Ending,
    FilesUnusable,
    summary_of,
    turns_down_certificate,
    verdict_on,
)
from agent_client.transport.mending import Mending
from agent_client.transport.parts import Parts
from agent_client.transport.session import Session
from agent_client.transport.socket import SessionEnded, open_socket
from agent_client.transport.succession import Succession
from agent_client.transport.tls import context_of
from agent_client.trust.document import TrustError
from protocol.enumerations import GoodbyeReason

CONNECTION_REFUSED: Final = "connection_refused"
FILE_FAULTS: Final = (StoreError, TrustError)

_log = Log("connection")


class Connection:
    """Holds a session whenever the hub will have one. `run()` ends by cancellation."""

    def __init__(
        self,
        config: Callable[[], Config],
        places: Places,
        absences: Absences,
        parts: Parts,
        papers: Papers,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`config` gives the configuration of now; `draw` a number in 0 ≤ n < 1, no secret."""
        self._config = config
        self._places = places
        self._absences = absences
        self._parts = parts
        self._papers = papers
        self._mending = Mending(papers, parts.clock)
        self._draw = draw
        self._session: Session | None = None
        self._up_monotonic: float | None = None
        self._wake = asyncio.Event()
        self._failures = 0
        self._reported = ""

    async def run(self) -> NoReturn:
        while True:
            self._parts.board.connecting()
            self._wake.clear()
            ending = await self._attempt()
            wait = self._settle(ending)
            await self._pause(wait.seconds)

    def reconsider(self) -> None:
        """The configuration may have changed: try now, not later; and anew where the session is of the old one."""
        self._wake.set()
        if self._session is not None and not self._session.config.connects_like(self._config()):
            self._session.replace.set()

    async def say_goodbye(self, reason: GoodbyeReason) -> None:
        """Tell the hub, if a session is up, why this agent goes; and remember it for the next `hello`."""
        with suppress(SessionEnded):
            if self._session is not None:
                await self._session.say_goodbye(reason)
        self._absences.began(1000, reason.value)

    async def _attempt(self) -> Ending:
        """Try the newest pair, and the one before where the hub does not take it. Mend what can be mended."""
        self._up_monotonic = None
        try:
            await self._papers.inheritance.take_up()
            newest, *older = pairs = self._papers.pairs.candidates(self._config().agent_id)
            ending = await self._hold(newest)
            for pair in older:
                if not self._had_welcome() and turns_down_certificate(ending):
                    ending = await self._hold(pair)
            if self._had_welcome():
                return self._mending.after_session(ending, self._config().agent_id)
            return await self._mending.after(ending, self._config(), pairs)
        except FILE_FAULTS as error:
            return FilesUnusable(str(error))

    async def _hold(self, pair: Pair) -> Ending:
        """Open a session with `pair` and hold it, and those that take over from it, until one ends."""
        try:
            succession = Succession(self._papers, self._greeted, self._took_over)
            await succession.run(pair)
        except SessionEnded as end:
            return end.ending
        except FILE_FAULTS as error:
            return FilesUnusable(str(error))
        except Exception as error:  # noqa: BLE001  a fault in one session must not end the agent
            _log.error("session failed inside the agent", exception=error)
            return Closed(ABNORMAL_CLOSURE, f"fault of the agent: {type(error).__name__}")
        finally:
            self._session = None
            if self._had_welcome():
                self._parts.cadence.session_down()
                self._parts.board.disconnected()

    @asynccontextmanager
    async def _greeted(self, pair: Pair) -> AsyncIterator[Session]:
        """Open a session that was welcomed; its socket is closed at the end of the block. Raises SessionEnded."""
        config, parts = self._config(), self._parts
        context = context_of(self._papers.trust.anchors_pem(), pair)
        async with open_socket(config, context, parts.clock) as socket:
            gap = None if self._had_welcome() else self._absences.last()
            session = Session(config, parts, socket, pair, gap, await parts.jobs.progress())
            await session.greet()
            self._papers.renewal.welcomed(pair)
            yield session

    def _took_over(self, session: Session) -> None:
        """`session` is the one that speaks from now on."""
        parts, self._session = self._parts, session
        if self._up_monotonic is not None:
            parts.board.handed_over(session.id)
            _log.info("session handed over", session_id=session.id)
            return
        self._up_monotonic = parts.clock.monotonic()
        self._absences.ended()
        parts.cadence.session_up()
        parts.board.connected(session.id, parts.clock.now_ms())
        _log.info("session up", session_id=session.id)

    def _settle(self, ending: Ending) -> Wait:
        config, parts = self._config(), self._parts
        had_welcome = self._had_welcome()
        was_stable = self._was_stable(config.backoff_stable_seconds)
        verdict = verdict_on(ending, had_welcome=had_welcome, was_stable=was_stable)
        wait = next_wait(config.pace, 0 if was_stable else self._failures, verdict.cause, self._draw())
        self._failures = wait.failures
        code, reason = summary_of(ending)
        if had_welcome:
            self._absences.began(code, reason)
        else:
            self._absences.failed()
        advice = verdict.advice_with(self._places.option)
        parts.board.waiting(parts.clock.now_ms() + int(wait.seconds * 1000), reason, advice)
        _log.info("not connected", code=code, reason=reason, advice=advice, retry_in_seconds=round(wait.seconds, 1))
        self._report(code, reason, is_new=had_welcome, needs_person=isinstance(verdict.cause, PersonNeeded))
        return wait

    def _had_welcome(self) -> bool:
        return self._up_monotonic is not None

    def _was_stable(self, seconds: float) -> bool:
        since = self._up_monotonic
        return since is not None and self._parts.clock.monotonic() - since >= seconds

    async def _pause(self, seconds: float) -> None:
        """Wait, or until a configuration was taken up since the attempt began; a session has seen it already."""
        if self._had_welcome():
            self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _report(self, code: int, reason: str, *, is_new: bool, needs_person: bool) -> None:
        """Store an event where only a person can help, once until the reason changes."""
        if is_new or not needs_person:
            self._reported = ""
        if not needs_person or reason == self._reported:
            return
        self._reported = reason
        _log.error("the hub does not take this agent", code=code, reason=reason)
        self._parts.spool.report(CONNECTION_REFUSED, {"code": code, "reason": reason[:1024]})
