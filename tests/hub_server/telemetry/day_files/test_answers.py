"""Buckets are put together where that holds up nobody, and from every hour, however it is stored at that moment."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hub_server.telemetry.day_files import folder
from hub_server.telemetry.day_files.answers import FoundRollups, rollups_of
from hub_server.telemetry.day_files.day import Day
from hub_server.telemetry.day_files.reading import Reading, Wanted
from hub_server.telemetry.day_files.samples import Block
from hub_server.telemetry.model import Resolution
from hub_server.telemetry.port import RollupColumns
from protocol.limits import METRIC_NAMES_MAX
from tests.hub_server.telemetry.contract.builders import MINUTE_MS, NOON_MS, Shelf, sample

DEADLINE_SECONDS = 30.0


async def test_no_machine_makes_the_event_loop_unpack_more_than_a_little(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chart of one of its metrics takes the rows apart in which all of them are."""
    threads: list[int] = []

    def noted(
        found: FoundRollups, metrics: list[str], from_ms: int, to_ms: int, *bytes_max: int
    ) -> dict[str, RollupColumns]:
        buckets = rollups_of(found, metrics, from_ms, to_ms, *bytes_max)
        threads.append(threading.get_ident())
        return buckets

    monkeypatch.setattr(folder, "rollups_of", noted)
    for agent, names in (("modest", 8), ("talkative", METRIC_NAMES_MAX)):
        taken = [{f"metric_{number}": minute / 7 for number in range(names)} for minute in range(180)]
        await shelf.add(
            *(sample(minute, NOON_MS + minute * MINUTE_MS, data, agent=agent) for minute, data in enumerate(taken))
        )
    await shelf.pack()
    charts = [
        await shelf.gauge(Resolution.MINUTE, "metric_3", agent="modest"),
        await shelf.gauge(Resolution.MINUTE, "metric_3", agent="talkative"),
    ]
    assert charts[0] == charts[1]
    assert len(charts[0]) == 180
    assert [thread == threading.get_ident() for thread in threads] == [True, False]


async def test_the_first_hour_of_a_file_is_not_missed_when_it_is_closed_meanwhile(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.add(*(sample(seq) for seq in range(5)))
    loop, open_hours = asyncio.get_running_loop(), Reading.open_hours

    def once_packed(reading: Reading, day: Day, wanted: Wanted, span: range) -> dict[str, dict[int, Block]]:
        asyncio.run_coroutine_threadsafe(shelf.pack(), loop).result(DEADLINE_SECONDS)
        return open_hours(reading, day, wanted, span)

    monkeypatch.setattr(Reading, "open_hours", once_packed)
    assert [bucket[3] for bucket in (await shelf.gauge(Resolution.HOUR)).values()] == [5]
