"""How often somebody may try before they have proved who they are."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict, deque
from typing import Final

from hub_server.clock import Clock
from hub_server.errors import RateLimited

CAPACITY: Final = 10_000


class _Attempts:
    """What is remembered of one key. `bad`: monotonic times of refused attempts, oldest first."""

    __slots__ = ("bad", "filled_monotonic", "tokens")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.filled_monotonic = now
        self.bad: deque[float] = deque()


class AttemptLimits:
    """A token bucket a key, and a pause for who failed too often.

    At most `capacity` keys are remembered; beyond it the one that was quiet for longest is forgotten.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        burst: int = 5,
        per_second: float = 1.0,
        bad_allowed: int = 10,
        bad_window_seconds: float = 600.0,
        capacity: int = CAPACITY,
    ) -> None:
        self._clock = clock
        self._burst = burst
        self._per_second = per_second
        self._bad_allowed = bad_allowed
        self._bad_window_seconds = bad_window_seconds
        self._capacity = capacity
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()

    def check(self, key: str) -> None:
        """Raises RateLimited, with the seconds to wait, when `key` may not try now."""
        self._checked(key)

    def spend(self, key: str) -> None:
        """Take one attempt. Raises RateLimited as `check` does, and takes nothing then."""
        self._checked(key).tokens -= 1

    def spend_if_any(self, key: str) -> None:
        """Take one attempt where there is one: for attempts that are counted after they were made."""
        attempts = self._of(key)
        attempts.tokens = max(0.0, attempts.tokens - 1)

    def give_back(self, key: str) -> None:
        """Undo one `spend`: the attempt was a good one."""
        attempts = self._of(key)
        attempts.tokens = min(self._burst, attempts.tokens + 1)

    def note_bad(self, key: str) -> None:
        """Remember an attempt that was refused."""
        bad = self._of(key).bad
        bad.append(self._clock.monotonic())
        if len(bad) > self._bad_allowed:
            bad.popleft()

    def _checked(self, key: str) -> _Attempts:
        attempts, now = self._of(key), self._clock.monotonic()
        if len(attempts.bad) >= self._bad_allowed:
            raise _limited("too many wrong attempts", attempts.bad[0] + self._bad_window_seconds - now)
        if attempts.tokens < 1:
            raise _limited("too many attempts at once", (1 - attempts.tokens) / self._per_second)
        return attempts

    def _of(self, key: str) -> _Attempts:
        now = self._clock.monotonic()
        attempts = self._attempts.get(key)
        if attempts is None:
            if len(self._attempts) >= self._capacity:
                self._attempts.popitem(last=False)
            attempts = self._attempts[key] = _Attempts(self._burst, now)
        self._attempts.move_to_end(key)
        elapsed = now - attempts.filled_monotonic
        attempts.tokens = min(self._burst, attempts.tokens + elapsed * self._per_second)
        attempts.filled_monotonic = now
        while attempts.bad and attempts.bad[0] <= now - self._bad_window_seconds:
            attempts.bad.popleft()
        return attempts


def network_of(address: str) -> str:
    """Return the key of a peer's address: itself, or the /64 of an IPv6 one, which a single machine can fill."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _limited(message: str, wait_seconds: float) -> RateLimited:
    seconds = max(1, math.ceil(wait_seconds))
    return RateLimited(f"{message}: try again in {seconds} s", retry_after_seconds=seconds)
