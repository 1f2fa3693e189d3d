"""The connection loop: attempt, session, wait, for as long as the agent runs. It never gives up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

import msgspec

from agent_client.backoff import PersonNeeded, Wait, next_wait
from agent_client.config import Config
from agent_client.logs import Log
from agent_client.paths import Places
from agent_client.spool.database import Database, DatabaseError
from agent_client.store.secure import StoreError
from agent_client.transport.endings import (
    ABNORMAL_CLOSURE,
    CertificateRefused,
    Closed,
    Ending,
    FilesUnusable,
    Unanswered,
    summary_of,
    verdict_on,
)
from agent_client.transport.parts import Parts
from agent_client.transport.session import Session
from agent_client.transport.socket import SessionEnded, open_socket
from agent_client.transport.tls import context_of
from protocol.enumerations import GoodbyeReason
from protocol.frames import LastDisconnect

CONNECTION_REFUSED: Final = "connection_refused"
_LAST_DISCONNECT: Final = "last_disconnect"

_log = Log("connection")
_last_disconnect_decoder: Final = msgspec.json.Decoder(LastDisconnect)


class Connection:
    """Holds a session whenever the hub will have one. `run()` ends by cancellation."""

    def __init__(
        self,
        config: Callable[[], Config],
        places: Places,
        database: Database,
        parts: Parts,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`config` gives the configuration of now; `draw` a number in 0 ≤ n < 1, no secret."""
        self._config = config
        self._places = places
        self._database = database
        self._parts = parts
        self._draw = draw
        self._session: Session | None = None
        self._wake = asyncio.Event()
        self._failures = 0
        self._reported = ""

    async def run(self) -> NoReturn:
        while True:
            self._parts.board.connecting()
            ending, session = await self._attempt()
            if isinstance(ending, Unanswered) and self._is_expired():
                ending = CertificateRefused("it has expired")
            wait = self._settle(ending, session)
            await self._pause(wait.seconds)

    def reconsider(self) -> None:
        """The configuration may have changed: try now, not later; and anew where the session is of the old one."""
        self._wake.set()
        if self._session is not None and not self._session.config.connects_like(self._config()):
            self._session.replace.set()

    async def say_goodbye(self, reason: GoodbyeReason) -> None:
        """Tell the hub, if a session is up, why this agent goes; and remember it for the next `hello`."""
        with suppress(SessionEnded):
            if self._session is not None and self._session.welcomed_monotonic is not None:
                await self._session.say_goodbye(reason)
        self._remember(1000, reason.value)

    async def _attempt(self) -> tuple[Ending, Session | None]:
        config = self._config()
        session: Session | None = None
        try:
            context = context_of(self._places)
            async with open_socket(config, context, self._parts.clock) as socket:
                session = self._session = Session(config, self._parts, socket, self._last_disconnect())
                await session.run()
        except SessionEnded as end:
            return end.ending, session
        except StoreError as error:
            return FilesUnusable(str(error)), session
        except Exception as error:  # noqa: BLE001  a fault in one session must not end the agent
            _log.error("session failed inside the agent", exception=error)
            return Closed(ABNORMAL_CLOSURE, f"fault of the agent: {type(error).__name__}"), session
        finally:
            self._session = None

    def _is_expired(self) -> bool:
        return self._config().certificate_not_after_ms <= self._parts.clock.now_ms()

    def _settle(self, ending: Ending, session: Session | None) -> Wait:
        config, parts = self._config(), self._parts
        had_welcome = session is not None and session.welcomed_monotonic is not None
        was_stable = session is not None and session.is_stable_after(config.backoff_stable_seconds)
        verdict = verdict_on(ending, had_welcome=had_welcome, was_stable=was_stable)
        wait = next_wait(config.pace, 0 if was_stable else self._failures, verdict.cause, self._draw())
        self._failures = wait.failures
        code, reason = summary_of(ending)
        if had_welcome:
            self._remember(code, reason)
        advice = verdict.advice_with(self._places.option)
        parts.board.waiting(parts.clock.now_ms() + int(wait.seconds * 1000), reason, advice)
        _log.info("not connected", code=code, reason=reason, advice=advice, retry_in_seconds=round(wait.seconds, 1))
        self._report(code, reason, is_new=had_welcome, needs_person=isinstance(verdict.cause, PersonNeeded))
        return wait

    async def _pause(self, seconds: float) -> None:
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
        with suppress(DatabaseError):
            self._parts.spool.append_event(CONNECTION_REFUSED, {"code": code, "reason": reason[:1024]})

    def _remember(self, code: int, reason: str) -> None:
        last = LastDisconnect(code=code, reason=reason[:4096], at_ms=self._parts.clock.now_ms())
        with suppress(DatabaseError):
            self._database.set_meta(_LAST_DISCONNECT, msgspec.json.encode(last).decode())

    def _last_disconnect(self) -> LastDisconnect | None:
        try:
            return _last_disconnect_decoder.decode(self._database.meta(_LAST_DISCONNECT))
        except (msgspec.MsgspecError, DatabaseError):
            return None
