"""What a hub tells of its parts, in /metrics and in its own figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import psutil

from hub_server.clock import milliseconds
from hub_server.composition.dashboards import Dashboards
from hub_server.composition.foundation import Foundation
from hub_server.heap import HeapKeeper

SECONDS_A_DAY: Final = 86_400


def show_process(base: Foundation, heap: HeapKeeper) -> None:
    """Tell what the process takes, and how its heap is kept."""
    gauge, count, process = base.instruments.gauge, base.instruments.count, psutil.Process()
    gauge("jtnt_agents_connected", "Agents with a session on this hub", lambda: len(base.registry))
    count("jtnt_sessions_begun", "Sessions of agents that began", lambda: base.registry.entered)
    gauge("jtnt_rss_bytes", "Memory of the hub's process", lambda: process.memory_info().rss)
    gauge("jtnt_open_files", "Files and sockets that the hub has open", process.num_fds if psutil.POSIX else lambda: 0)
    gauge("jtnt_cpu_percent", "CPU of the hub since the last look, in percent of one core", CpuShare())
    count("jtnt_heap_freezes", "How often settled sessions were frozen", lambda: heap.freezes)
    gauge(
        "jtnt_issuing_authority_days",
        "Days until the certificate of the authority in use ends",
        lambda: (base.authority.issuing_expires_at - datetime.now(UTC)).total_seconds() / SECONDS_A_DAY,
    )


def show_store(base: Foundation) -> None:
    """Tell what the store of samples holds."""
    gauge, count, metrics = base.instruments.gauge, base.instruments.count, base.metrics
    gauge("jtnt_store_hot_samples", "Samples that are not packed yet", lambda: metrics.figures().hot_samples)
    gauge("jtnt_store_packed_bytes", "Packed samples on disk", lambda: metrics.figures().packed_bytes)
    gauge("jtnt_store_bytes", "All samples and rollups on disk", lambda: metrics.figures().total_bytes)

    count(
        "jtnt_store_cut_hours",
        "Hours of which samples were left out: more names, samples or text than an hour may have",
        lambda: metrics.figures().cut_hours,
    )

    def oldest_hot_seconds() -> float:
        oldest_ms = metrics.figures().oldest_hot_ms
        return 0.0 if oldest_ms is None else max(0.0, milliseconds(base.clock.now()) - oldest_ms) / 1000

    gauge("jtnt_store_oldest_hot_seconds", "Age of the oldest sample that is not packed", oldest_hot_seconds)


def show_dashboards(base: Foundation, dashboards: Dashboards) -> None:
    """Tell what dashboards are sent, and what they do not take."""
    gauge, count = base.instruments.gauge, base.instruments.count
    feed, traffic, server = dashboards.feed, dashboards.lines.traffic, dashboards.server
    gauge("jtnt_dashboards_connected", "Sockets of dashboards", lambda: server.client_count)
    gauge("jtnt_feed_watchers", "Sockets that watch the feed", lambda: feed.watcher_count)
    gauge("jtnt_feed_views", "Different views that are watched", lambda: feed.view_count)
    count("jtnt_feed_frames", "Frames of the feed that were encoded", lambda: feed.frames)
    count("jtnt_feed_laggards", "Times a client was too far behind for the next frame", lambda: feed.laggards)
    count("jtnt_dashboard_messages_sent", "Messages sent to dashboards", lambda: traffic.messages_sent)
    count("jtnt_dashboard_messages_compressed", "Of those sent, compressed", lambda: traffic.messages_compressed)
    count("jtnt_dashboard_messages_dropped", "Messages a client was too slow for", lambda: traffic.messages_dropped)
    count("jtnt_dashboard_sent_bytes", "Bytes sent to dashboards", lambda: traffic.bytes_sent)
    gauge("jtnt_dashboard_held_bytes_max", "The most one dashboard left unread", lambda: traffic.held_bytes_max)
    count("jtnt_dashboards_cut", "Dashboards cut off: they left too much unread", lambda: server.cut_count)


class CpuShare:
    """CPU time of this process over the time since the last call."""

    def __init__(self, cpu: Callable[[], float] = time.process_time, now: Callable[[], float] = time.monotonic) -> None:
        self._cpu = cpu
        self._now = now
        self._last = cpu(), now()

    def __call__(self) -> float:
        """Return percent of one core."""
        before, self._last = self._last, (self._cpu(), self._now())
        seconds = self._last[1] - before[1]
        return 100 * (self._last[0] - before[0]) / seconds if seconds > 0 else 0.0
