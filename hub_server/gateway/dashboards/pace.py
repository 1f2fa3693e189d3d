"""How fast operations may come. Seed 004, "Rate limiting"."""

from __future__ import annotations

from typing import Final

from hub_server.access.limits import AttemptLimits
from hub_server.access.model import Principal
from hub_server.clock import Clock
from protocol.operations import OPERATIONS, FeedAck

ACKNOWLEDGEMENTS_PER_SECOND: Final = 40.0
"""One for each tick of the feed, ten a second at most, and as many again for a browser that catches up."""
ACKNOWLEDGEMENTS_AT_ONCE: Final = 200


class Pace:
    """One bucket for each person or API key, whatever sockets they have; a socket's acknowledgements have their own."""

    def __init__(self, clock: Clock, *, per_second: float, at_once: int) -> None:
        self._operations = AttemptLimits(clock, burst=at_once, per_second=per_second)
        self._acknowledgements = AttemptLimits(
            clock, burst=ACKNOWLEDGEMENTS_AT_ONCE, per_second=ACKNOWLEDGEMENTS_PER_SECOND
        )

    def spend(self, principal: Principal, socket_id: str, operation: str) -> None:
        """Raises RateLimited, with the seconds to wait."""
        known = OPERATIONS.get(operation)
        if known is not None and known.request is FeedAck:
            self.spend_acknowledgement(socket_id)
        else:
            self._operations.spend(f"{principal.organisation_id} {principal.actor}")

    def spend_acknowledgement(self, socket_id: str) -> None:
        """Raises RateLimited, with the seconds to wait."""
        self._acknowledgements.spend(socket_id)
