"""Connections between agents and the hub that lose, repeat, reorder and delay what is said, or fall silent.

To the hub frames keep their order, as on TCP: a frame is lost only with all that follow on its connection, and what is
under way when a connection breaks may still arrive, beside the frames of the next one. To the agent each frame takes
its own way, as on a bus between hubs: it may be lost, come twice, or be overtaken.
"""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct

from protocol.codec import encode
from protocol.elements import Frame
from tests.simulation.chance import Chance

FRAMES_MAX: Final = 10_000
BROKEN: Final = b""


class LinkBroken(Exception):
    """The connection is gone."""


class Weather(Struct, frozen=True):
    """How likely each frame has a fate. All zero: a fine day."""

    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    late_seconds: float = 8.0
    delay_seconds: float = 0.05


FINE: Final = Weather()


class Direction:
    """One way of a connection."""

    def __init__(self, name: str, chance: Chance, network: Network, *, keeps_order: bool) -> None:
        self._name = name
        self._chance = chance
        self._network = network
        self._keeps_order = keeps_order
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue(FRAMES_MAX)
        self._newest_due = 0.0
        self.is_silent = False
        self.is_closed = False

    def send(self, frame: Frame, *, surely: bool = False) -> None:
        """`surely`: neither lost nor overtaken, unless the direction is silent."""
        if self.is_silent or self.is_closed:
            return
        raw, weather = encode(frame), self._network.weather
        if not surely and not self._keeps_order and self._chance.happens(weather.lost):
            self._chance.trace(f"{self._name} lost {raw[:160]!r}")
            return
        self._deliver(raw, surely=surely)
        if not surely and self._chance.happens(weather.repeated):
            self._deliver(raw, surely=False)

    def close(self) -> None:
        """Nothing more is sent. The reader hears of it after what was under way."""
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_at(self._due(0.0, surely=True), self._arrive, BROKEN)

    async def receive(self) -> bytes:
        """Return the next frame. Raises LinkBroken when there is none any more."""
        raw = await self._inbox.get()
        if raw == BROKEN:
            raise LinkBroken
        return raw

    def _deliver(self, raw: bytes, *, surely: bool) -> None:
        weather = self._network.weather
        delay_seconds = self._chance.between(0.001, weather.delay_seconds)
        if not surely and self._chance.happens(weather.late):
            delay_seconds = self._chance.between(0, weather.late_seconds)
        asyncio.get_running_loop().call_at(self._due(delay_seconds, surely=surely), self._arrive, raw)

    def _due(self, delay_seconds: float, *, surely: bool) -> float:
        due = asyncio.get_running_loop().time() + delay_seconds
        if self._keeps_order or surely:
            due = self._newest_due = max(due, self._newest_due + 1e-6)
        return due

    def _arrive(self, raw: bytes) -> None:
        if not self.is_silent and not self._inbox.full():
            if self._chance.is_told:
                self._chance.trace(f"{self._name} {raw[:200]!r}")
            self._inbox.put_nowait(raw)


class Link:
    """One connection of one agent."""

    def __init__(self, agent_id: str, chance: Chance, network: Network) -> None:
        self.agent_id = agent_id
        self.to_hub = Direction(f"{agent_id}→hub", chance, network, keeps_order=True)
        self.to_agent = Direction(f"hub→{agent_id}", chance, network, keeps_order=False)

    def close(self) -> None:
        self.to_hub.close()
        self.to_agent.close()

    def fall_silent(self) -> None:
        """Nothing gets through any more, not even that it is over."""
        self.to_hub.is_silent = self.to_agent.is_silent = True

    def end(self) -> None:
        """Let both sides find out at last."""
        for direction in (self.to_hub, self.to_agent):
            direction.is_silent = False
            direction.close()


class Network:
    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.weather = FINE
        self.parted: set[str] = set()
        self.links: dict[str, list[Link]] = {}
        self.calls: asyncio.Queue[Link] | None = None
        """Where the hub hears of new connections; None while it is away."""

    def connect(self, agent_id: str) -> Link | None:
        """Return a new connection, None where nobody answers."""
        if agent_id in self.parted or self.calls is None:
            return None
        link = Link(agent_id, self._chance, self)
        self.links.setdefault(agent_id, []).append(link)
        self.calls.put_nowait(link)
        return link

    def part(self, agent_id: str, after_seconds: float) -> None:
        """Cut the agent off; both sides find out some time later."""
        self._chance.trace(f"{agent_id} is cut off")
        self.parted.add(agent_id)
        for link in self.links.pop(agent_id, ()):
            link.fall_silent()
            asyncio.get_running_loop().call_later(after_seconds, link.end)

    def rejoin(self, agent_id: str) -> None:
        self._chance.trace(f"{agent_id} can be reached again")
        self.parted.discard(agent_id)

    def break_links(self, agent_id: str) -> None:
        """End its connections; what is under way still arrives."""
        for link in self.links.pop(agent_id, ()):
            link.close()

    def hub_is_gone(self) -> None:
        self.calls = None
        for agent_id in list(self.links):
            self.break_links(agent_id)
