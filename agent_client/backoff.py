"""How long to wait before the next attempt to connect. Pure: chance comes in as a number.

The first retry after a lost session is spread over 0…30 s, or comes in the slot the hub gave; repeated failures double
from 30 s to 15 min, ± 20 % (seed 000, "Retry Policy"); what only a person can mend goes to the slow lane. The count of
failures starts again only after a session that stayed up for the stable minute.
"""

from __future__ import annotations

from typing import Final, assert_never

from msgspec import Struct

_EXPONENT_MAX: Final = 62


class Pace(Struct, frozen=True):
    first_retry_spread_seconds: float
    initial_seconds: float
    max_seconds: float
    jitter: float
    slow_lane_seconds: float


class SessionLost(Struct, frozen=True):
    """A session that had its welcome has ended."""

    was_stable: bool


class AttemptFailed(Struct, frozen=True):
    """No session came about, for a reason that may pass by itself."""


class TimeGiven(Struct, frozen=True):
    """The hub said when to come back."""

    seconds: float


class PersonNeeded(Struct, frozen=True):
    """Nothing changes until a person acts: revoked, wrong certificate, wrong version."""


Cause = SessionLost | AttemptFailed | TimeGiven | PersonNeeded


class Wait(Struct, frozen=True):
    """`failures`: the count to hand in next time."""

    seconds: float
    failures: int


def next_wait(pace: Pace, failures: int, cause: Cause, draw: float) -> Wait:
    """Return the wait after `cause`, when `failures` endings went before it since the last stable session.

    `draw` is uniform in 0 ≤ draw < 1.
    """
    match cause:
        case SessionLost(was_stable=was_stable):
            if was_stable or failures == 0:
                return Wait(pace.first_retry_spread_seconds * draw, 1)
            return Wait(_doubled(pace, failures, draw), failures + 1)
        case AttemptFailed():
            return Wait(_doubled(pace, failures, draw), failures + 1)
        case TimeGiven(seconds=seconds):
            return Wait(min(max(seconds, 0.0), pace.slow_lane_seconds) * (1 + pace.jitter * draw), failures + 1)
        case PersonNeeded():
            return Wait(_jittered(pace.slow_lane_seconds, pace, draw), failures + 1)
        case _:
            assert_never(cause)


def _doubled(pace: Pace, failures: int, draw: float) -> float:
    exponent = min(max(failures - 1, 0), _EXPONENT_MAX)
    return _jittered(min(pace.initial_seconds * 2.0**exponent, pace.max_seconds), pace, draw)


def _jittered(seconds: float, pace: Pace, draw: float) -> float:
    return seconds * (1 + pace.jitter * (2 * draw - 1))
