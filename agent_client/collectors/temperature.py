"""Temperatures in degrees Celsius, where the machine lets them be read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent_client.collectors.readings import Figures, Readings

SENSORS_MAX: Final = 32
LOOK_AGAIN_SECONDS: Final = 3600.0
_HWMON: Final = Path("/sys/class/hwmon")
_ZONES: Final = Path("/sys/class/thermal")
# Asks the disk itself: a dying one answers late, and one that sleeps would be woken.
_ASKS_A_DISK: Final = "drivetemp"
_PLAUSIBLE: Final = (-100.0, 200.0)


class _Sensor(NamedTuple):
    metric: str
    path: Path


class TemperatureCollector:
    """`temperature`: a field a sensor, as `coretemp_package_id_0_celsius`. One that does not answer is left out."""

    name: Final = "temperature"

    def __init__(
        self, hwmon: Path = _HWMON, zones: Path = _ZONES, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folders = (hwmon, zones)
        self._monotonic = monotonic
        self._sensors: list[_Sensor] = []
        self._looked_at: float | None = None

    def collect(self) -> Readings:
        figures = self._from_files() if any(folder.is_dir() for folder in self._folders) else _from_psutil()
        return {self.name: figures} if figures else {}

    def _from_files(self) -> Figures:
        now = self._monotonic()
        if self._looked_at is None or now - self._looked_at > LOOK_AGAIN_SECONDS:
            hwmon, zones = self._folders
            self._sensors = [*_named_apart(_chips(hwmon))] or [*_named_apart(_thermal_zones(zones))]
            self._looked_at = now
        figures: Figures = {}
        for sensor in self._sensors:
            with suppress(OSError, ValueError):  # a sensor of a device that is asleep or gone
                figures |= _plausible(sensor.metric, int(sensor.path.read_bytes()) / 1000)
        return figures


def _chips(hwmon: Path) -> Iterator[_Sensor]:
    for chip in _sorted(hwmon, "hwmon*"):
        name = _text(chip / "name")
        if name == _ASKS_A_DISK:
            continue
        for path in _sorted(chip, "temp*_input"):
            label = _text(path.with_name(path.name.replace("_input", "_label"))) or path.name.removesuffix("_input")
            yield _Sensor(f"{name or chip.name} {label}", path)


def _thermal_zones(zones: Path) -> Iterator[_Sensor]:
    for zone in _sorted(zones, "thermal_zone*"):
        yield _Sensor(_text(zone / "type") or zone.name, zone / "temp")


def _named_apart(sensors: Iterator[_Sensor]) -> Iterator[_Sensor]:
    """Yield at most SENSORS_MAX under metric names; equal ones are counted through."""
    taken: dict[str, int] = {}
    for sensor, _ in zip(sensors, range(SENSORS_MAX), strict=False):
        metric = _metric_of(sensor.metric)
        taken[metric] = taken.get(metric, 0) + 1
        number = f"_{taken[metric]}" if taken[metric] > 1 else ""
        yield _Sensor(f"{metric}{number}_celsius", sensor.path)


def _from_psutil() -> Figures:
    """Read them on systems other than Linux, where psutil knows how."""
    figures: Figures = {}
    if hasattr(psutil, "sensors_temperatures"):
        for chip, readings in psutil.sensors_temperatures().items():
            for number, reading in enumerate(readings, start=1):
                name = _metric_of(f"{chip} {reading.label or number}")
                figures |= _plausible(f"{name}_celsius", reading.current)
    return dict([*figures.items()][:SENSORS_MAX])


def _plausible(metric: str, celsius: float) -> Figures:
    low, high = _PLAUSIBLE
    return {metric: round(celsius, 1)} if low < celsius < high else {}


def _metric_of(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:100] or "sensor"


def _sorted(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
