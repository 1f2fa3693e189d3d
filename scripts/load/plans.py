"""What dashboards are told to do; orders and reports are those of every worker."""

from __future__ import annotations

from msgspec import Struct


class Watch(Struct, frozen=True, tag=True):
    """Open `count` dashboards, of which `subscribed` use the feed and confirm its batches as the hub asks."""

    web_url: str
    token: str
    count: int
    subscribed: int


class Crowd(Struct, frozen=True, tag=True):
    """Open `count` light dashboards that all watch `metrics` of the same `agents` agents, and confirm what they see.

    The largest batch that is no snapshot is written to `frame_file`, unless that is empty.
    """

    web_url: str
    token: str
    count: int
    agents: int
    metrics: tuple[str, ...]
    frame_file: str = ""


Plan = Watch | Crowd
