"""The collectors of every agent, and when each one is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent_client.cadence import Cadence
from agent_client.collectors.drives import DriveCollector
from agent_client.collectors.failures import Failures
from agent_client.collectors.interfaces import InterfaceCollector
from agent_client.collectors.logins import LoginCollector
from agent_client.collectors.processes import ProcessCollector
from agent_client.collectors.rounds import SlowCollector
from agent_client.collectors.sampling import MINUTE_SECONDS, Scheduled
from agent_client.collectors.system import SystemCollector
from agent_client.collectors.temperature import TemperatureCollector
from agent_client.inventory.collector import InventoryCollector
from agent_client.inventory.shelf import Shelf
from agent_client.paths import Places
from agent_client.security.collector import SecurityCollector


def standard_collectors(cadence: Cadence) -> list[Scheduled]:
    """Processes and logins are taken only where the organisation's settings say so."""
    return [
        Scheduled(SystemCollector()),
        Scheduled(InterfaceCollector()),
        Scheduled(DriveCollector(), MINUTE_SECONDS),
        Scheduled(TemperatureCollector(), MINUTE_SECONDS),
        Scheduled(ProcessCollector(), MINUTE_SECONDS, lambda: cadence.settings.processes_enabled),
        Scheduled(LoginCollector(), MINUTE_SECONDS, lambda: cadence.settings.logins_enabled),
    ]


def slow_collectors(places: Places, cadence: Cadence, failures: Failures, shelf: Shelf) -> list[SlowCollector]:
    """Return them as the files say now: plugins come and go with `plugins.toml`."""

    def takes_metrics() -> bool:
        return cadence.metrics_enabled

    return [
        SecurityCollector(lambda: cadence.metrics_enabled and cadence.settings.security_checks_enabled),
        InventoryCollector(places.inventory, shelf, lambda: cadence.settings.inventory_enabled),
        *_plugins(places, failures, takes_metrics),
    ]


def _plugins(places: Places, failures: Failures, is_wanted: Callable[[], bool]) -> Sequence[SlowCollector]:
    if not places.plugins_file.exists():
        failures.drop(lambda name: name == "plugins" or name.startswith("custom."))
        return []
    # Most machines have none, and need not hold what plugins need.
    from agent_client.plugins.collector import plugin_collectors  # noqa: PLC0415

    return plugin_collectors(places, failures, is_wanted)
