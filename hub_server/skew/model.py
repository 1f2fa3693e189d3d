"""How an agent's clock stands against the hub's, in ms; ahead of it is positive."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Struct

WINDOW: Final = 8
JUMP_MS: Final = 5_000
CORRECTED_FROM_MS: Final = 2_000
"""Below it an offset is not told apart from the way of a frame, and times stay as the agent said them."""
LATE_MS: Final = 30_000
"""How long a single frame may have waited to be read, while a whole fleet comes back."""
SKEWED_ABOVE_MS: Final = 60_000
FINE_BELOW_MS: Final = 30_000


class Reading(NamedTuple):
    """What one frame says of four clocks, taken when the hub had it. The agent's monotonic one begins anywhere."""

    agent_ms: int
    agent_monotonic_ms: int
    hub_ms: int
    hub_monotonic_ms: int


class Measurement(Struct, frozen=True, order=True, gc=False):
    """`lateness_ms` is how late the frame came, plus something that is the same until either side is booted."""

    lateness_ms: int
    offset_ms: int


class Estimate(Struct, frozen=True, gc=False):
    """The last measurements, the newest at the end; at most WINDOW of them.

    `walls_ms` is how far the wall clocks of both are apart once their monotonic ones are taken out: it changes by the
    step of whichever was set, and not by a frame that came late.
    """

    measurements: tuple[Measurement, ...]
    walls_ms: int

    @property
    def offset_ms(self) -> int:
        """Return what the frame that was least late says."""
        return min(self.measurements).offset_ms
