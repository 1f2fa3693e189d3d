"""What a lost connection means: the agent's end, the hub's own absence, or a whole site that fell silent. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from hub_server.presence.model import Site
from protocol.enumerations import ConnectionReason
from protocol.limits import (
    BACKOFF_JITTER,
    BACKOFF_MAX_SECONDS,
    FIRST_RETRY_SPREAD_SECONDS,
    OFFLINE_AFTER_SECONDS,
)

UNEXPLAINED: Final = frozenset({ConnectionReason.CONNECTION_LOST, ConnectionReason.SILENT})
"""Ends without a goodbye that neither side decided."""
SITE_WINDOW_SECONDS: Final = 30.0
SITE_AGENTS_MIN: Final = 3
SITE_SHARE_MIN: Final = 0.8
PATIENCE_PER_ABSENCE: Final = 1.5
PATIENCE_MAX_SECONDS: Final = BACKOFF_MAX_SECONDS * (1 + BACKOFF_JITTER) + FIRST_RETRY_SPREAD_SECONDS


def patience_seconds(absence_seconds: float) -> float:
    """Return how long agents are awaited after the hub was away.

    Their pauses between attempts double: after a long absence the next attempt may be as far away as the absence was
    long (protocol/limits.py, BACKOFF_…).
    """
    return max(OFFLINE_AFTER_SECONDS, min(PATIENCE_PER_ABSENCE * absence_seconds, PATIENCE_MAX_SECONDS))


def is_the_hubs(reason: ConnectionReason, *, pause_ended_at: float, now: float) -> bool:
    """Tell whether a session ended because of the hub: it fell, or the agent gave it up while it was frozen, or while
    it had all at once to do what it had missed.

    `pause_ended_at` and `now` in seconds of hub activity.
    """
    if reason is ConnectionReason.HUB_AWAY:
        return True
    is_after_pause = now - pause_ended_at <= OFFLINE_AFTER_SECONDS
    return reason is ConnectionReason.CONNECTION_LOST and is_after_pause


def silent_sites(
    lost: Mapping[Site, Collection[str]], connected: Mapping[Site, int], silent: Mapping[Site, int]
) -> list[Site]:
    """Return the sites that fell silent as a whole.

    By site: agents that went without a goodbye within SITE_WINDOW_SECONDS, how many are connected, and how many were
    called silent with their site before.
    """
    return [site for site, agent_ids in lost.items() if _is_silent(len(agent_ids) + silent[site], connected[site])]


def _is_silent(gone: int, connected: int) -> bool:
    return gone >= SITE_AGENTS_MIN and gone >= SITE_SHARE_MIN * (gone + connected)
