"""What the approval queue answers a machine that asks, and a person who decides."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from hub_server.enrollment.model import Approval
from hub_server.errors import Conflict
from protocol.enumerations import ApprovalState


class NotAsked(Struct, frozen=True):
    """Nobody asked by this right yet. `instead_of`: a row of the same key that another right left behind."""

    instead_of: Approval | None


class Waiting(Struct, frozen=True):
    approval: Approval


class LetIn(Struct, frozen=True):
    """A person said yes; the certificate is still to be issued."""

    approval: Approval


class TurnedAway(Struct, frozen=True):
    approval: Approval


class Lapsed(Struct, frozen=True):
    """Nobody decided in time, or the machine did not come back in time after a yes."""

    approval: Approval


class Fetched(Struct, frozen=True):
    """The machine got its certificate."""

    approval: Approval
    serial: str


Answer = NotAsked | Waiting | LetIn | TurnedAway | Lapsed | Fetched


def answer_to(wanted: Approval, stored: Approval | None, now: datetime) -> Answer:
    """Answer the request that would make the row `wanted`. `stored`: the row of its key."""
    if stored is None or not stored.asks_for(wanted):
        return NotAsked(stored)
    if stored.certificate_serial is not None:
        return Fetched(stored, stored.certificate_serial)
    match stored.state_at(now):
        case ApprovalState.PENDING:
            return Waiting(stored)
        case ApprovalState.APPROVED:
            return LetIn(stored)
        case ApprovalState.REJECTED:
            return TurnedAway(stored)
        case ApprovalState.EXPIRED:
            return Lapsed(stored)


def decided(approval: Approval, verdict: ApprovalState, by: str, now: datetime, life: timedelta) -> Approval:
    """Return `approval` with a person's verdict, APPROVED or REJECTED. The machine has `life` to come back after a yes.

    A yes may be taken back until the machine has fetched its certificate. Raises Conflict.
    """
    stands = approval.state_at(now)
    if stands is verdict:
        return approval
    if approval.certificate_serial is not None:
        raise Conflict("the machine is in already; revoke or delete its agent instead")
    if stands is ApprovalState.PENDING or (stands is ApprovalState.APPROVED and verdict is ApprovalState.REJECTED):
        expires_at = now + life if verdict is ApprovalState.APPROVED else approval.expires_at
        return msgspec.structs.replace(approval, state=verdict, decided_at=now, decided_by=by, expires_at=expires_at)
    if stands is ApprovalState.EXPIRED:
        raise Conflict(f"the request expired at {approval.expires_at:%Y-%m-%d %H:%M} UTC; the machine must ask again")
    raise Conflict(f"the request was {stands} by {approval.decided_by} already")
