"""A line without a network: keeps what it is sent."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from hub_server.gateway.dashboards.line import Line
from hub_server.gateway.dashboards.message import Message
from hub_server.gateway.dashboards.rooms import commands_room, fleet_room, unsubscribed_room
from tests.hub_server.gateway.dashboards.stage import ORGANISATION, Stage

Json = dict[str, Any]
FEED: Final = "agents:metrics"


class HearingLine:
    """`reads`: False lets it miss what is droppable; `is_drained` is the test's."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reads = True
        self.is_drained = True
        self.takes_compressed = False
        self.has_missed = False

    def send(self, message: Message) -> bool:
        if self.reads or not message.is_droppable:
            self.messages.append(message)
        return self.reads

    def take(self, name: str = FEED) -> list[Json]:
        """Return the events of this name that came since the last time."""
        events = [json.loads(message.encode()[2:]) for message in self.messages]
        self.messages.clear()
        return [event[1] for event in events if event[0] == name]


def hearing(stage: Stage, socket_id: str, organisation_id: str = ORGANISATION) -> HearingLine:
    """A client that is signed in, and watches nothing yet."""
    line = HearingLine()
    stage.lines.open(socket_id, cast("Line", line))
    for room in (fleet_room, commands_room, unsubscribed_room):
        stage.lines.enter(socket_id, room(organisation_id))
    return line


def values_in(frames: list[Json]) -> dict[str, float]:
    """Return what frames say of each agent, the latest last."""
    return {
        sample["agentId"]: sample["metricData"]["cpu_percent"]
        for frame in frames
        for sample in frame["samples"]
        if sample["metricType"] == "system"
    }
