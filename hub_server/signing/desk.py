"""Answers questions, one at a time: checks the order, writes it down, signs it."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, assert_never

from hub_server.signing.engine import Bucket, Unsignable, order_in
from hub_server.signing.logbook import Logbook
from hub_server.signing.model import (
    Adopt,
    Answer,
    LogLine,
    Make,
    Question,
    Refusal,
    Refused,
    Sealed,
    Sign,
    Signed,
    Terms,
)
from hub_server.signing.strongbox import Strongbox
from hub_server.storage.private_files import KeysRefused
from protocol.envelope import JobEnvelope

TEXT_MAX_CHARS: Final = 256


class Desk:
    """Several connections may ask it."""

    def __init__(
        self,
        terms: Terms,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        now_monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises KeysRefused when the signer's key cannot be used, OSError when its log cannot be written."""
        self._strongbox = Strongbox(Path(terms.key_file))
        self._logbook = Logbook(Path(terms.log_file), max_bytes=terms.log_max_bytes, kept=terms.log_files_kept)
        self._organisations = frozenset(terms.organisations)
        self._now_ms = now_ms
        self._now_monotonic = now_monotonic
        self._bucket = Bucket(terms.per_second, terms.burst, now_monotonic())
        self._is_throttled = False
        self._turn = threading.Lock()

    def close(self) -> None:
        self._logbook.close()

    def answer(self, question: Question) -> Answer:
        """Every question takes a token, also one that is refused: the log cannot be flooded either."""
        with self._turn:
            wait_seconds = self._bucket.take(self._now_monotonic())
            try:
                if wait_seconds > 0:
                    return self._throttled(question, wait_seconds)
                self._is_throttled = False
                return self._answered(question)
            except KeysRefused as error:
                return Refused(question.number, Refusal.KEYS, str(error))
            except OSError as error:
                message = f"the signer cannot write its log or read its key: {error.strerror or error}"
                return Refused(question.number, Refusal.LOG, message)

    def _answered(self, question: Question) -> Answer:
        match question:
            case Sign():
                return self._signed(question)
            case Make(number):
                public_key, sealed = self._strongbox.make()
                self._write(outcome="made a key")
                return Sealed(number, public_key, sealed)
            case Adopt(number, private_key):
                public_key, sealed = self._strongbox.adopt(private_key)
                self._write(outcome="took over a key")
                return Sealed(number, public_key, sealed)
            case _:
                assert_never(question)

    def _signed(self, question: Sign) -> Answer:
        try:
            order = order_in(question.payload, self._now_ms(), self._organisations)
        except Unsignable as error:
            self._write(outcome="refused", why=str(error)[:TEXT_MAX_CHARS], sha256=_sha256(question.payload))
            return Refused(question.number, Refusal.ORDER, str(error))
        signature = self._strongbox.sign(question.key_id, question.sealed, question.payload)
        self._note(order, question)
        return Signed(question.number, signature)

    def _note(self, order: JobEnvelope, question: Sign) -> None:
        """Called before the signature leaves: none is out that is not in the log."""
        self._write(
            outcome="signed",
            job_id=order.job_id,
            organisation_id=order.organisation_id,
            agent_id=order.agent_id,
            action=order.action,
            requested_by=order.requested_by[:TEXT_MAX_CHARS],
            key_id=question.key_id,
            sha256=_sha256(question.payload),
        )

    def _throttled(self, question: Question, wait_seconds: float) -> Refused:
        if not self._is_throttled:
            self._is_throttled = True
            self._write(outcome="rate limited")
        seconds = max(math.ceil(wait_seconds), 1)
        return Refused(question.number, Refusal.RATE, "too many commands at once; try again", seconds)

    def _write(self, *, outcome: str, **fields: str) -> None:
        at = datetime.fromtimestamp(self._now_ms() / 1000, UTC).isoformat(timespec="milliseconds")
        self._logbook.write(LogLine(at=at, outcome=outcome, **fields))


def _sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()
