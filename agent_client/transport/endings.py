"""How an attempt to hold a session ended, and what follows from it. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, assert_never

from msgspec import Struct

from agent_client.backoff import AttemptFailed, Cause, PersonNeeded, SessionLost, TimeGiven
from protocol.codes import CloseCode
from protocol.enumerations import RefusalAction
from protocol.frames import Refuse

ABNORMAL_CLOSURE: Final = 1006
_FIRST_HUB_CODE: Final = 4000


class Unreachable(Struct, frozen=True):
    """No connection, or no upgrade of it."""

    reason: str


class Unanswered(Struct, frozen=True):
    """TLS came about, and the hub hung up before it answered the upgrade.

    A hub that goes down does so; and, where its TLS library sends no alert, one that refuses our certificate.
    """


class HubNotTrusted(Struct, frozen=True):
    """The hub's certificate is not one of this fleet, or not for the name we called."""

    reason: str


class CertificateRefused(Struct, frozen=True):
    """The hub's TLS turned our certificate down: expired, or of another fleet."""

    reason: str


class FilesUnusable(Struct, frozen=True):
    """Our own key or certificates are missing, open to others, or do not fit."""

    reason: str


class HttpRefused(Struct, frozen=True):
    status: int
    retry_after_seconds: float | None = None


class Refused(Struct, frozen=True):
    frame: Refuse


class Closed(Struct, frozen=True):
    """The connection is gone; 1006 where nobody said why."""

    code: int
    reason: str


class Drained(Struct, frozen=True):
    """The hub asked to come back in `slot_seconds`."""

    slot_seconds: float


class Replaced(Struct, frozen=True):
    """We ended the session ourselves, to open another with a new configuration."""


class PapersRenewed(Struct, frozen=True):
    """What stood in the way was mended: there is a newer trust document, or a new certificate."""

    what: str


class AwaitingApproval(Struct, frozen=True):
    """Our certificate ran out, and a person must approve a new one. `fingerprint`: of its key."""

    fingerprint: str


class RecoveryForbidden(Struct, frozen=True):
    """Our certificate ran out, and the hub gives no other: a person said no, or the agent is not trusted."""

    reason: str


class Outdated(Struct, frozen=True):
    """A session that was up ended because its certificate counts no more, and the agent has a remedy to try."""

    code: int
    reason: str
    remedy: str


Ending = (
    Unreachable
    | Unanswered
    | HubNotTrusted
    | CertificateRefused
    | FilesUnusable
    | HttpRefused
    | Refused
    | Closed
    | Drained
    | Replaced
    | PapersRenewed
    | AwaitingApproval
    | RecoveryForbidden
    | Outdated
)

_SLOW: Final = frozenset({CloseCode.IDENTITY_UNKNOWN, CloseCode.REVOKED, CloseCode.VERSION})
_ADVICE: Final = {
    CloseCode.IDENTITY_UNKNOWN: "the hub does not know this agent",
    CloseCode.REVOKED: "this agent is revoked or in quarantine; ask whoever runs the hub",
    CloseCode.VERSION: "this agent and the hub have no protocol version in common; update the older one",
}


_QUARANTINED: Final = (
    "the hub refused this agent: {}. Once released it works again by itself; "
    "if this machine is a copy of another, enroll the copy anew"
)
_REVOKED: Final = "the hub refused this agent: {}. If the machine is to come back, ask whoever runs the hub"


class Verdict(Struct, frozen=True):
    """What to do after an ending. `advice` is for a person, empty where none is needed."""

    cause: Cause
    advice: str = ""
    is_to_enroll: bool = False

    def advice_with(self, option: str) -> str:
        """Return the advice with the command to type; `option` is what it needs behind it to act on these places."""
        command = f"; enroll again: jtnt-agent enroll --force JOIN-STRING{option}" if self.is_to_enroll else ""
        return f"{self.advice}{command}"


def verdict_on(ending: Ending, *, had_welcome: bool, was_stable: bool) -> Verdict:
    lost: Cause = SessionLost(was_stable) if had_welcome else AttemptFailed()
    match ending:
        case Unreachable():
            return Verdict(lost)
        case Unanswered():
            return Verdict(lost, "the hub hangs up at once; if it goes on, it may not accept this agent's certificate")
        case HubNotTrusted(reason=reason):
            return Verdict(PersonNeeded(), f"the hub at this address is not this fleet's hub: {reason}")
        case CertificateRefused(reason=reason):
            advice = f"the hub refused this agent's certificate ({reason})"
            return Verdict(PersonNeeded(), advice, is_to_enroll=True)
        case FilesUnusable(reason=reason):
            return Verdict(PersonNeeded(), reason)
        case HttpRefused():
            return _on_http(ending)
        case Refused(frame=frame):
            return _on_refusal(frame)
        case Closed(code=code):
            return _on_close(code, lost)
        case Drained(slot_seconds=seconds):
            return Verdict(TimeGiven(seconds))
        case Replaced() | PapersRenewed():
            return Verdict(TimeGiven(0.0))
        case AwaitingApproval(fingerprint=fingerprint):
            advice = (
                "this agent's certificate ran out; it waits until a person approves it on the hub, under approvals. "
                f"Compare the fingerprint of its key: {fingerprint}"
            )
            return Verdict(PersonNeeded(), advice)
        case RecoveryForbidden(reason=reason):
            advice = (
                f"this agent's certificate counts no more, and it gets no other (403 forbidden): {reason}. "
                "It asks again once an hour"
            )
            return Verdict(PersonNeeded(), advice, is_to_enroll=True)
        case Outdated(remedy=remedy):
            return Verdict(lost, remedy)
        case _:
            assert_never(ending)


def summary_of(ending: Ending) -> tuple[int, str]:
    """Return a close code and a reason in words, for `lastDisconnect`, logs and the status."""
    match ending:
        case Unreachable(reason=reason):
            return ABNORMAL_CLOSURE, f"unreachable: {reason}"
        case Unanswered():
            return ABNORMAL_CLOSURE, "the hub hung up before it answered"
        case HubNotTrusted(reason=reason):
            return ABNORMAL_CLOSURE, f"hub not trusted: {reason}"
        case CertificateRefused(reason=reason):
            return ABNORMAL_CLOSURE, f"certificate refused: {reason}"
        case FilesUnusable(reason=reason):
            return ABNORMAL_CLOSURE, reason
        case HttpRefused(status=status):
            return ABNORMAL_CLOSURE, f"refused with HTTP status {status}"
        case Refused(frame=frame):
            return frame.code, f"refused ({frame.action}): {frame.message}"
        case Closed(code=code, reason=reason):
            return code, reason or "connection lost"
        case Drained():
            return CloseCode.DRAINING, "hub draining"
        case Replaced():
            return 1000, "configuration changed"
        case PapersRenewed(what=what):
            return 1000, f"{what} renewed"
        case AwaitingApproval():
            return ABNORMAL_CLOSURE, "certificate expired, its recovery waits for a person's approval"
        case RecoveryForbidden(reason=reason):
            return ABNORMAL_CLOSURE, f"certificate expired, its recovery is forbidden: {reason}"
        case Outdated(code=code, reason=reason):
            return code, reason
        case _:
            assert_never(ending)


def turns_down_certificate(ending: Ending) -> bool:
    """Return whether the hub may take another certificate of this agent where it did not take this one."""
    match ending:
        case CertificateRefused() | Unanswered() | FilesUnusable():
            return True
        case HttpRefused(status=status):
            return status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        case Refused(frame=frame):
            return frame.action is RefusalAction.RE_ENROLL
        case Closed(code=code):
            return code == CloseCode.IDENTITY_UNKNOWN
        case _:
            return False


def _on_http(ending: HttpRefused) -> Verdict:
    if ending.retry_after_seconds is not None:
        return Verdict(TimeGiven(ending.retry_after_seconds))
    if ending.status == HTTPStatus.TOO_MANY_REQUESTS or ending.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Verdict(AttemptFailed())
    if ending.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        advice = f"the hub refused this agent with HTTP status {ending.status}"
        return Verdict(PersonNeeded(), advice, is_to_enroll=True)
    advice = f"what answers at the hub's address is no such hub (HTTP status {ending.status}); check websocket_url"
    return Verdict(PersonNeeded(), advice)


def _on_refusal(frame: Refuse) -> Verdict:
    is_mistrust = frame.code == CloseCode.REVOKED
    match frame.action:
        case RefusalAction.RETRY:
            return Verdict(AttemptFailed())
        case RefusalAction.RETRY_AFTER:
            cause = AttemptFailed() if frame.retry_after_sec is None else TimeGiven(frame.retry_after_sec)
            return Verdict(cause, _QUARANTINED.format(frame.message) if is_mistrust else "")
        case RefusalAction.FIX_CONFIG:
            return Verdict(PersonNeeded(), f"the hub refused this agent: {frame.message}; mend its configuration")
        case RefusalAction.RE_ENROLL:
            return Verdict(PersonNeeded(), f"the hub refused this agent: {frame.message}", is_to_enroll=True)
        case RefusalAction.NEVER if is_mistrust:
            return Verdict(PersonNeeded(), _REVOKED.format(frame.message), is_to_enroll=True)
        case RefusalAction.NEVER:
            return Verdict(PersonNeeded(), f"the hub refused this agent: {frame.message}")
        case _:
            assert_never(frame.action)


def _on_close(code: int, lost: Cause) -> Verdict:
    if code < _FIRST_HUB_CODE:
        return Verdict(lost)
    try:
        known = CloseCode(code)
    except ValueError:
        return Verdict(AttemptFailed())
    if known in _SLOW:
        return Verdict(PersonNeeded(), _ADVICE[known], is_to_enroll=known is CloseCode.IDENTITY_UNKNOWN)
    if known in {CloseCode.HUB_FAULT, CloseCode.DRAINING}:
        return Verdict(lost)
    return Verdict(AttemptFailed())
