"""The agent's own journal of disconnections: when each session ended and why, and how long it was without one."""

from __future__ import annotations

from typing import Final

import msgspec

from agent_client.clock import Clock
from agent_client.logs import Log
from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.spool import Spool
from protocol.elements import Body
from protocol.frames import LastDisconnect
from protocol.reports import DISCONNECTED

ABNORMAL_CLOSURE: Final = 1006
_ABSENCE: Final = "last_disconnect"
_SESSION: Final = "session"
_UP: Final = "up"

_log = Log("connection")


class _Absence(Body, frozen=True):
    """`attempts`: those that failed since. A version that knows no more than LastDisconnect can read it too."""

    code: int
    reason: str
    at_ms: int
    attempts: int = 0
    is_over: bool = True


_decoder: Final = msgspec.json.Decoder(_Absence)


class Absences:
    """Told of each session that begins or ends, and of each attempt that fails. Survives restarts.

    A `disconnected` event is stored when the next session is up. What the disk does not take is logged.
    """

    def __init__(self, database: Database, spool: Spool, clock: Clock) -> None:
        """A session that was up when an earlier life of the agent ended without a word has ended then."""
        self._database = database
        self._spool = spool
        self._clock = clock
        self._began_since_boot: float | None = None
        self._absence = self._stored()
        self._is_up = database.meta(_SESSION) == _UP
        if self._is_up:
            at_ms = database.last_written_ms or clock.now_ms()
            self._begin(
                _Absence(code=ABNORMAL_CLOSURE, reason="agent ended without a word", at_ms=at_ms, is_over=False)
            )

    def last(self) -> LastDisconnect | None:
        """Return how the last session ended, for `hello`."""
        absence = self._absence
        if absence is None:
            return None
        return LastDisconnect(code=absence.code, reason=absence.reason, at_ms=absence.at_ms)

    def began(self, code: int, reason: str) -> None:
        """A session has ended; nothing happens where it is known already, or none was up."""
        if self._is_up:
            now_ms = self._clock.now_ms()
            self._begin(_Absence(code=code, reason=reason[:4096], at_ms=now_ms, is_over=False))
            self._began_since_boot = self._clock.since_boot()

    def failed(self) -> None:
        """An attempt to end the absence has failed."""
        if self._absence is not None and not self._absence.is_over:
            self._absence = msgspec.structs.replace(self._absence, attempts=self._absence.attempts + 1)
            self._write(is_up=False)

    def ended(self) -> None:
        """A session is up."""
        absence = self._absence
        if absence is not None and not absence.is_over:
            self._spool.report(
                DISCONNECTED,
                {
                    "code": absence.code,
                    "reason": absence.reason[:1024],
                    "at_ms": absence.at_ms,
                    "for_ms": self._lasted_ms(absence),
                    "attempts": absence.attempts + 1,
                },
            )
            self._absence = msgspec.structs.replace(absence, is_over=True)
        self._write(is_up=True)

    def _lasted_ms(self, absence: _Absence) -> int:
        if self._began_since_boot is not None:
            return int((self._clock.since_boot() - self._began_since_boot) * 1000)
        return max(self._clock.now_ms() - absence.at_ms, 0)

    def _begin(self, absence: _Absence) -> None:
        self._absence = absence
        self._write(is_up=False)

    def _stored(self) -> _Absence | None:
        try:
            return _decoder.decode(self._database.meta(_ABSENCE))
        except msgspec.MsgspecError:
            return None

    def _write(self, *, is_up: bool) -> None:
        self._is_up = is_up

        def write() -> None:
            self._database.set_meta(_SESSION, _UP if is_up else "")
            if self._absence is not None:
                self._database.set_meta(_ABSENCE, msgspec.json.encode(self._absence).decode())

        try:
            self._database.vital(write)
        except DatabaseError as error:
            _log.error("disconnection not written down", reason=str(error))
