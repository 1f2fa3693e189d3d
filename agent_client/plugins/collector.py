"""Plugins as collectors of the daemon."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from agent_client.collectors.failures import Failures
from agent_client.collectors.readings import Readings
from agent_client.paths import Places
from agent_client.plugins.runner import run_plugin
from agent_client.plugins.settings import Plugin, PluginsUnusable, load_plugins

FIRST_WITHIN_SECONDS: Final = 5.0
FILE: Final = "plugins"
"""What reports call the file of all plugins where it is at fault itself."""


class PluginCollector:
    """`custom.<name>`. It fails where the plugin does, and recovers with it."""

    def __init__(self, plugin: Plugin, places: Places, is_wanted: Callable[[], bool]) -> None:
        self.name = plugin.metric_type
        self.interval_seconds = plugin.interval_seconds
        self._is_wanted = is_wanted
        self._plugin = plugin
        self._places = places

    def is_wanted(self) -> bool:
        return self._is_wanted()

    def first_wait_seconds(self) -> float:
        return random.uniform(0, FIRST_WITHIN_SECONDS)  # noqa: S311  spreads load, no secret

    async def collect(self) -> Readings:
        return {self.name: await run_plugin(self._plugin, self._places)}

    async def woken(self) -> None:
        await asyncio.Event().wait()


def plugin_collectors(places: Places, failures: Failures, is_wanted: Callable[[], bool]) -> Sequence[PluginCollector]:
    """Return one for each plugin of the file; none, and a failure said, where it cannot be used."""
    try:
        plugins = load_plugins(places)
    except PluginsUnusable as error:
        failures.failed(FILE, str(error))
        plugins = []
    else:
        failures.worked(FILE)
    collectors = [PluginCollector(plugin, places, is_wanted) for plugin in plugins]
    names = {collector.name for collector in collectors}
    failures.drop(lambda name: name.startswith("custom.") and name not in names)
    return collectors
