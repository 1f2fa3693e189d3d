"""What agents say once of a trouble of theirs is shown until they say that it is over, also by a hub that restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from hub_server.events import AgentReported
from hub_server.presence.model import reason_of, status_of
from hub_server.presence.worker import TroubleListener
from protocol.reports import COLLECTOR_FAILING, COLLECTOR_RECOVERED, GAP, SPOOL_FULL
from tests.clocks import FakeClock
from tests.hub_server.presence.fleet import ACTIVE, ERROR, Fleet

DISK = {"collector": "disk"}


def said(kind: str, data: dict[str, Any], seq: int = 1) -> AgentReported:
    return AgentReported(organisation_id="o", agent_id="a", epoch=1, seq=seq, ts_ms=seq, kind=kind, data=data)


async def shown(earlier: Sequence[AgentReported], later: Sequence[AgentReported] = ()) -> tuple[str, str]:
    """Return status and reason of an agent once a listener has heard all."""
    fleet = Fleet(FakeClock())
    fleet.open("a")
    heard = asyncio.Event()

    async def told(_kinds: Collection[str]) -> Sequence[AgentReported]:
        heard.set()
        return earlier

    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(TroubleListener(fleet.bus, fleet.presence, told).run())
        await heard.wait()
        for report in later:
            fleet.bus.publish(report)
        while any(each.buffered for each in fleet.bus.subscriptions() if each.name == "troubles"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        listening.cancel()
    presence = fleet.presence.of("a")
    return status_of(presence), reason_of(presence)


@pytest.mark.parametrize(
    ("reports", "shows"),
    [
        ([(COLLECTOR_FAILING, DISK)], (ERROR, "disk_failing")),
        ([(COLLECTOR_FAILING, DISK), (COLLECTOR_RECOVERED, DISK)], (ACTIVE, "")),
        ([(COLLECTOR_RECOVERED, DISK), (COLLECTOR_FAILING, DISK)], (ERROR, "disk_failing")),
        ([(SPOOL_FULL, {})], (ERROR, "spool_full")),
        ([(SPOOL_FULL, {}), (GAP, {"cause": "bytes"})], (ERROR, "spool_full")),
        ([(SPOOL_FULL, {}), (GAP, {"cause": "disk"})], (ACTIVE, "")),
        ([("started", {})], (ACTIVE, "")),
    ],
)
async def test_a_trouble_lasts_from_its_report_to_its_end(
    reports: list[tuple[str, dict[str, Any]]], shows: tuple[str, str]
) -> None:
    events = [said(kind, data, seq) for seq, (kind, data) in enumerate(reports, 1)]
    assert await shown(earlier=events) == shows
    assert await shown(earlier=[], later=events) == shows
