"""The bus of a single hub: memory and nothing else."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from hub_server.bus.port import Overflow, Subscription
from hub_server.events import DomainEvent, family_of


class InProcessBus:
    def __init__(self) -> None:
        self._listeners: dict[str, list[_Queue]] = {}
        self._refusing: dict[str, list[_Queue]] = {}

    def publish(self, event: DomainEvent) -> bool:
        family = family_of(event)
        for listener in self._refusing.get(family, ()):
            if listener.is_full:
                return False
        for listener in self._listeners.get(family, ()):
            listener.put(event)
        return True

    @contextmanager
    def subscribe(
        self, families: frozenset[str], *, name: str, capacity: int, overflow: Overflow
    ) -> Iterator[Subscription]:
        queue = _Latest(name, capacity) if overflow is Overflow.LATEST_PER_KEY else _Ordered(name, capacity)
        indexes = [self._listeners, self._refusing] if overflow is Overflow.REFUSE else [self._listeners]
        for family in families:
            for index in indexes:
                index.setdefault(family, []).append(queue)
        try:
            yield queue
        finally:
            for family in families:
                for index in indexes:
                    index[family].remove(queue)

    def subscriptions(self) -> list[Subscription]:
        seen: dict[int, Subscription] = {}
        for queues in self._listeners.values():
            seen.update((id(queue), queue) for queue in queues)
        return list(seen.values())


class _Queue:
    """One listener's room. Only the listener's own task waits on it."""

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self._capacity = capacity
        self._filled = asyncio.Event()
        self._waits = False
        self._dropped = 0

    @property
    def buffered(self) -> int:
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        return self._dropped

    @property
    def is_full(self) -> bool:
        return self.buffered >= self._capacity

    def put(self, event: DomainEvent) -> None:
        raise NotImplementedError

    def take(self, limit: int) -> list[DomainEvent]:
        raise NotImplementedError

    async def batch(self, limit: int) -> list[DomainEvent]:
        while not self.buffered:
            self._filled.clear()
            self._waits = True
            await self._filled.wait()
        return self.take(limit)

    def _wake(self) -> None:
        self._waits = False
        self._filled.set()

    async def __aiter__(self) -> AsyncIterator[DomainEvent]:
        while True:
            for event in await self.batch(1):
                yield event


class _Ordered(_Queue):
    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(name, capacity)
        self._events: deque[DomainEvent] = deque()

    @property
    def buffered(self) -> int:
        return len(self._events)

    def put(self, event: DomainEvent) -> None:
        if len(self._events) >= self._capacity:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        if self._waits:
            self._wake()

    def take(self, limit: int) -> list[DomainEvent]:
        return [self._events.popleft() for _ in range(min(limit, len(self._events)))]


class _Latest(_Queue):
    """Keeps the newest event of each agent and kind; beyond the capacity the stalest agent goes."""

    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(name, capacity)
        self._events: OrderedDict[tuple[type[DomainEvent], str], DomainEvent] = OrderedDict()

    @property
    def buffered(self) -> int:
        return len(self._events)

    def put(self, event: DomainEvent) -> None:
        key = (type(event), event.agent_id)
        if self._events.pop(key, None) is None and len(self._events) >= self._capacity:
            self._events.popitem(last=False)
            self._dropped += 1
        self._events[key] = event
        if self._waits:
            self._wake()

    def take(self, limit: int) -> list[DomainEvent]:
        return [self._events.popitem(last=False)[1] for _ in range(min(limit, len(self._events)))]
