"""What the hub's parts ask of the bus. Publishing never runs a listener's code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol

from hub_server.events import DomainEvent


class Overflow(StrEnum):
    """What happens to a listener that is `capacity` events behind."""

    REFUSE = "refuse"
    DROP_OLDEST = "drop_oldest"
    LATEST_PER_KEY = "latest_per_key"


class Subscription(Protocol):
    """A bounded queue of events, in the order of publication."""

    name: str

    def __aiter__(self) -> AsyncIterator[DomainEvent]: ...

    async def batch(self, limit: int) -> list[DomainEvent]:
        """Wait for at least one event, then return all that are there, `limit` at most."""

    @property
    def buffered(self) -> int: ...

    @property
    def dropped(self) -> int: ...


class Bus(Protocol):
    def publish(self, event: DomainEvent) -> bool:
        """Hand `event` to every listener of its family.

        Returns False when a listener with Overflow.REFUSE had no room; nobody got the event then, and the publisher
        lets its peer feel it (withholds credits).
        """

    def subscribe(
        self, families: frozenset[str], *, name: str, capacity: int, overflow: Overflow
    ) -> AbstractContextManager[Subscription]:
        """Listen from now on, until the context ends."""

    def subscriptions(self) -> list[Subscription]:
        """Return the open subscriptions, for the hub's own metrics."""
