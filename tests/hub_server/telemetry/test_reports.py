"""What agents report of themselves: stored once, listed newest first, deleted when it is old."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select, text

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.clock import from_milliseconds
from hub_server.events import AgentReported
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry import reports as reports_module
from hub_server.telemetry.model import Received
from hub_server.telemetry.reports import DATA_MAX_BYTES, ReportService
from hub_server.telemetry.store import ReportStore
from hub_server.telemetry.tables import AgentReportRow
from protocol.frames import Event
from protocol.telemetry import ReportsList
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import DAY_MS, NOW_MS, viewer_of, waiting


class Desk:
    """The reports of one hub process; `restarted` is what a kill -9 leaves: the database."""

    def __init__(self, database: Database, bus: InProcessBus, clock: FakeClock, ahead_ms: int = 0) -> None:
        self.database, self.bus, self.clock = database, bus, clock
        self.received = Received()
        self.service = ReportService(
            database=database,
            bus=bus,
            clock=clock,
            store=ReportStore(),
            received=self.received,
            correction_ms=lambda _agent_id: ahead_ms,
        )

    async def restarted(self) -> Desk:
        desk = Desk(self.database, self.bus, self.clock)
        await desk.service.load()
        return desk

    async def stored(self) -> int:
        async with self.database.read(EVERY_ORGANISATION) as connection:
            return await connection.scalar(select(func.count()).select_from(AgentReportRow)) or 0


@pytest.fixture
def desk(database: Database, bus: InProcessBus, clock: FakeClock) -> Desk:
    return Desk(database, bus, clock)


def report(seq: int, *, epoch: int = 3, ts: int = NOW_MS, kind: str = "collector_failing") -> Event:
    return Event(epoch=epoch, seq=seq, ts=ts, kind=kind, data={"collector": "disk"})


def long_report(seq: int, length: int = 4096) -> Event:
    return Event(epoch=3, seq=seq, ts=NOW_MS, kind="gap", data={"cause": "x" * length})


async def test_a_report_is_stored_and_said_once(desk: Desk, organisation_id: str, bus: InProcessBus) -> None:
    with bus.subscribe(frozenset({"reports"}), name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as said:
        for _ in range(3):
            ack = await desk.service.report(organisation_id, "a1", report(2))
            assert (ack.epoch, ack.ranges) == (3, [(2, 2)])
            desk = await desk.restarted()
        [event] = await waiting(said)
    assert isinstance(event, AgentReported)
    assert (event.kind, event.data, event.seq) == ("collector_failing", {"collector": "disk"}, 2)
    assert desk.received.sample_count("a1") == 0, "reports are no samples"
    assert await desk.stored() == 1


async def test_reports_at_the_same_time_are_all_stored_and_remembered(
    desk: Desk, organisation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports_module, "BATCH_REPORTS_MAX", 10)
    async with asyncio.TaskGroup() as tasks:
        for agent_id in ("a1", "a2"):
            for seq in (*range(1, 9), 3):
                tasks.create_task(desk.service.report(organisation_id, agent_id, report(seq)))
    restarted = await desk.restarted()
    for agent_id in ("a1", "a2"):
        assert restarted.received.in_use(agent_id)["events"][1].to_list() == [(1, 8)]
    assert await desk.stored() == 16


async def test_a_report_whose_sender_is_gone_does_not_keep_others_from_being_stored(
    desk: Desk, organisation_id: str
) -> None:
    async with asyncio.TaskGroup() as tasks:
        gone = tasks.create_task(desk.service.report(organisation_id, "a1", report(1)))
        tasks.create_task(desk.service.report(organisation_id, "a2", report(1)))
        await asyncio.sleep(0)
        gone.cancel()
    assert desk.received.in_use("a2")["events"][1].to_list() == [(1, 1)]
    assert desk.service.waiting == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_report_that_the_database_refuses_harms_no_other(desk: Desk, organisation_id: str) -> None:
    poison = report(1, kind="nul\0")
    acks = await asyncio.gather(
        *(
            desk.service.report(organisation_id, f"a{number}", poison if number == 1 else report(1))
            for number in range(4)
        )
    )
    assert [ack.ranges for ack in acks] == [[(1, 1)], [], [(1, 1)], [(1, 1)]]
    assert desk.service.waiting == 0
    assert await desk.stored() == 3


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_report_that_finds_the_disk_full_is_not_acknowledged_until_it_is_stored(
    desk: Desk, organisation_id: str
) -> None:
    async with desk.database.write(EVERY_ORGANISATION) as connection:
        pages = await connection.scalar(text("pragma page_count"))
        await connection.execute(text(f"pragma max_page_count = {pages}"))
    seq = 1
    while (await desk.service.report(organisation_id, "a1", long_report(seq))).ranges:
        seq += 1
    assert (await desk.stored(), desk.service.waiting) == (seq - 1, 0)
    async with desk.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(text("pragma max_page_count = 1000000"))
    assert (await desk.service.report(organisation_id, "a1", long_report(seq))).ranges == [(seq, seq)]
    assert (await desk.restarted()).received.in_use("a1")["events"][1].to_list() == [(1, seq)]


async def test_a_page_of_reports_is_no_way_to_fill_the_hubs_memory(desk: Desk, organisation_id: str) -> None:
    await desk.service.report(organisation_id, "a1", long_report(1, DATA_MAX_BYTES))
    reply = await desk.service.list(viewer_of(organisation_id), ReportsList())
    assert reply.reports[0].data == {"omitted_bytes": DATA_MAX_BYTES + len('{"cause":""}')}


async def test_reports_are_listed_newest_first_and_only_of_the_own_organisation(
    desk: Desk, organisation_id: str
) -> None:
    for seq, (agent_id, kind) in enumerate([("a1", "gap"), ("a1", "started"), ("a2", "gap"), ("a1", "gap")], start=1):
        await desk.service.report(organisation_id, agent_id, report(seq, ts=NOW_MS - 100 + seq, kind=kind))
    await desk.service.report("another", "b1", report(9, kind="gap"))

    async def listed(**wanted: object) -> tuple[list[tuple[str, str, int]], int]:
        reply = await desk.service.list(viewer_of(organisation_id), ReportsList(**wanted))  # type: ignore[arg-type]
        return [
            (each.agent_id, each.kind, int(each.at.timestamp() * 1000) - NOW_MS) for each in reply.reports
        ], reply.total

    assert await listed() == (
        [("a1", "gap", -96), ("a2", "gap", -97), ("a1", "started", -98), ("a1", "gap", -99)],
        4,
    )
    assert await listed(agent_id="a1", kinds=["gap", "spool_full"]) == ([("a1", "gap", -96), ("a1", "gap", -99)], 2)
    assert await listed(limit=2, offset=1) == ([("a2", "gap", -97), ("a1", "started", -98)], 4)
    assert await listed(agent_id="b1") == ([], 0)


async def test_times_of_reports_are_by_the_hubs_clock_and_never_ahead_of_it(
    database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str
) -> None:
    desk = Desk(database, bus, clock, ahead_ms=5000)
    for seq, ts in ((1, NOW_MS + 4000), (2, NOW_MS + 9000)):
        await desk.service.report(organisation_id, "a1", report(seq, ts=ts))
    reply = await desk.service.list(viewer_of(organisation_id), ReportsList())
    assert [each.at for each in reply.reports] == [from_milliseconds(NOW_MS), from_milliseconds(NOW_MS - 1000)]


async def test_old_reports_are_deleted_oldest_first_in_slices(desk: Desk, organisation_id: str) -> None:
    for seq in range(1, 8):
        await desk.service.report(organisation_id, "a1", report(seq, ts=NOW_MS - (8 - seq) * DAY_MS))
    cutoff_ms = NOW_MS - 2 * DAY_MS
    assert await desk.service.delete_before(cutoff_ms, 3) == 3
    reply = await desk.service.list(viewer_of(organisation_id), ReportsList())
    assert [NOW_MS - int(each.at.timestamp() * 1000) for each in reply.reports][-1] == 4 * DAY_MS
    assert [await desk.service.delete_before(cutoff_ms, 3) for _ in range(2)] == [2, 0]
    reply = await desk.service.list(viewer_of(organisation_id), ReportsList())
    assert [NOW_MS - int(each.at.timestamp() * 1000) for each in reply.reports] == [DAY_MS, 2 * DAY_MS]


async def test_reports_of_an_agent_are_deleted_with_it_and_only_in_its_organisation(
    desk: Desk, database: Database, organisation_id: str
) -> None:
    await desk.service.report(organisation_id, "a1", report(1))
    for owner, left in (("another", 1), (organisation_id, 0)):
        async with database.write(EVERY_ORGANISATION) as connection:
            await desk.service.delete_agent(connection, owner, "a1")
        assert await desk.stored() == left
    assert (await desk.restarted()).received.in_use("a1") == {}


async def test_reports_of_some_kinds_are_told_again_in_order_after_a_restart(desk: Desk, organisation_id: str) -> None:
    for seq, kind in enumerate(("collector_failing", "gap", "collector_recovered"), 1):
        await desk.service.report(organisation_id, "a", report(seq, ts=NOW_MS + seq, kind=kind))
    told = await (await desk.restarted()).service.said_before({"collector_failing", "collector_recovered"})
    assert [(event.seq, event.kind, event.organisation_id) for event in told] == [
        (1, "collector_failing", organisation_id),
        (3, "collector_recovered", organisation_id),
    ]
