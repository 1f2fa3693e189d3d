"""Packing, retention and the deletion of what agents leave behind."""

from __future__ import annotations

import asyncio

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.events import AgentDeleted
from hub_server.storage.engine import Database
from hub_server.telemetry import worker
from hub_server.telemetry.model import HUB_AGENT_PREFIX, Received, Resolution
from hub_server.telemetry.port import StoreFailed
from hub_server.telemetry.reports import ReportService
from hub_server.telemetry.store import ReportStore
from hub_server.telemetry.worker import Packer, Purger, Retention
from protocol.frames import Event
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import DAY_MS, NOW_MS, ORGANISATION, Hub, metrics, received
from tests.hub_server.telemetry.memory_store import MemoryStore

DAYS = {Resolution.RAW: 7, Resolution.MINUTE: 30, Resolution.FIVE_MINUTES: 180, Resolution.HOUR: 730}


async def test_all_that_is_due_is_packed_piece_by_piece(store: MemoryStore, clock: FakeClock) -> None:
    store.hot = 35
    packer = Packer(clock=clock, store=store)
    assert [await packer.pack(), await packer.pack()] == [35, 0]


async def test_packing_goes_on_after_a_failure(
    store: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PACKING_SECONDS", 0.0)
    done = asyncio.Event()
    calls = 0

    async def pack(now_ms: int) -> int:
        nonlocal calls
        assert now_ms == NOW_MS
        calls += 1
        if calls == 1:
            raise StoreFailed("no room", temporary=True)
        done.set()
        return 0

    monkeypatch.setattr(store, "pack", pack)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Packer(clock=clock, store=store).run())
        await done.wait()
        running.cancel()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_each_resolution_and_the_reports_are_kept_as_long_as_they_should(
    database: Database,
    bus: InProcessBus,
    clock: FakeClock,
    store: MemoryStore,
    organisation_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "RETENTION_SLICE_ROWS", 2)
    reports = ReportService(
        database=database,
        bus=bus,
        clock=clock,
        store=ReportStore(),
        received=Received(),
        correction_ms=lambda _agent_id: 0,
    )
    for seq in range(1, 8):
        old = Event(epoch=1, seq=seq, ts=NOW_MS - (90 if seq > 5 else 91) * DAY_MS, kind="gap")
        await reports.report(organisation_id, "a1", old)
    retention = Retention(clock=clock, store=store, reports=reports, days=DAYS, reports_days=90)
    await retention.sweep()
    assert store.dropped == [(resolution, NOW_MS - days * DAY_MS) for resolution, days in DAYS.items()]
    assert await reports.delete_before(NOW_MS, 100) == 2


async def test_samples_of_deleted_agents_are_deleted_also_those_that_a_crash_left(
    hub: Hub, bus: InProcessBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_FIRST_SECONDS", 0.0)
    figures = f"{HUB_AGENT_PREFIX}1"
    await hub.recorder.record([received(name, metrics(1)) for name in ("left", "stays", "goes", figures)])
    hub = await hub.restarted()

    async def is_enrolled(organisation_id: str, agent_id: str) -> bool:
        assert organisation_id == ORGANISATION
        return agent_id in {"stays", "goes"}

    delete_agent, failures = hub.store.delete_agent, iter([True, False])

    async def flaky(organisation_id: str, agent_id: str) -> None:
        if next(failures, False):
            raise StoreFailed("no room", temporary=True)
        await delete_agent(organisation_id, agent_id)
        deleted.append(agent_id)
        told.set()

    deleted: list[str] = []
    told = asyncio.Event()
    monkeypatch.setattr(hub.store, "delete_agent", flaky)
    purger = Purger(bus=bus, telemetry=hub.telemetry, is_enrolled=is_enrolled)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(purger.run())
        await told.wait()
        told.clear()
        bus.publish(AgentDeleted(organisation_id=ORGANISATION, agent_id="goes", hostname="goes"))
        await told.wait()
        running.cancel()
    assert deleted == ["left", "goes"]
    assert {key.agent_id for key, _ in hub.store.samples} == {"stays", figures}
