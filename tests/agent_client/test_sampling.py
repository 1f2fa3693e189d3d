"""When collectors are asked, what is written at once, and what the hub hears of one that fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.cadence import Cadence
from agent_client.collectors.failures import Failures
from agent_client.collectors.lineup import standard_collectors
from agent_client.collectors.readings import Readings
from agent_client.collectors.rounds import Rounds
from agent_client.collectors.sampling import Sampler, Scheduled
from agent_client.security.collector import SecurityCollector
from agent_client.spool.database import Database
from agent_client.spool.spool import Spool, SpoolBound
from protocol.desired import AgentConfig
from tests.agent_client.alive import until
from tests.agent_client.clock import DrivenClock


class Probe:
    """A collector that counts, yields what it is told to, and fails on demand."""

    def __init__(self, name: str, *types: str) -> None:
        self.name = name
        self.calls = 0
        self.fault: Exception | None = None
        self._types = types or (name,)

    def collect(self) -> Readings:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        return {metric_type: {"n": self.calls} for metric_type in self._types}


@pytest.fixture
def clock() -> DrivenClock:
    return DrivenClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "spool.db")
    yield database
    database.close()


@pytest.fixture
def spool(database: Database, clock: DrivenClock) -> Spool:
    return Spool(database, clock, SpoolBound(2**26, 72 * 3600))


def ticked(sampler: Sampler, clock: DrivenClock, cadence: Cadence, seconds: float) -> None:
    """Sample as the loop does for so long: at once, and then each tick."""
    until = clock.monotonic() + seconds
    while clock.monotonic() < until:
        sampler.sample()
        clock.advance(min(cadence.sample_interval_seconds, 60.0))


@pytest.mark.parametrize(
    ("interval_seconds", "fast_calls", "slow_calls"), [(10, 180, 30), (45, 40, 30), (60, 30, 30), (600, 3, 30)]
)
def test_each_collector_keeps_its_own_interval_whatever_the_sample_interval_is(
    interval_seconds: int, fast_calls: int, slow_calls: int, database: Database, spool: Spool, clock: DrivenClock
) -> None:
    cadence = Cadence(AgentConfig(sample_interval_sec=interval_seconds))
    fast, slow = Probe("fast"), Probe("slow")
    sampler = Sampler([Scheduled(fast), Scheduled(slow, 60.0)], spool, cadence, clock, Failures(spool, database))
    ticked(sampler, clock, cadence, 1800)
    assert (fast.calls, slow.calls) == (fast_calls, slow_calls)


def test_all_that_is_due_is_one_transaction_of_one_moment(
    database: Database, spool: Spool, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    collectors = [Scheduled(Probe("system")), Scheduled(Probe("disk", "disk./", "disk./data"), 60.0)]
    written: list[list[str]] = []
    append = spool.append_samples

    def noted(lane: object, ts: object, readings: list[tuple[str, object]]) -> None:
        written.append([metric_type for metric_type, _ in readings])
        append(lane, ts, readings)  # type: ignore[arg-type]

    monkeypatch.setattr(spool, "append_samples", noted)
    Sampler(collectors, spool, Cadence(), clock, Failures(spool, database)).sample()
    assert written == [["system", "disk./", "disk./data"]]
    assert {sample.ts for sample in spool.samples("backfill")} == {clock.now_ms()}


def test_a_collector_that_fails_is_said_once_and_when_it_works_again_and_the_others_go_on(
    database: Database, spool: Spool, clock: DrivenClock
) -> None:
    broken, sound = Probe("broken"), Probe("sound")
    failures = Failures(spool, database)
    sampler = Sampler([Scheduled(broken), Scheduled(sound)], spool, Cadence(), clock, failures)
    broken.fault = TypeError("not even an expected fault")
    sampler.sample()
    sampler.sample()
    assert failures.names() == ["broken"]
    assert Counter(sample.metric_type for sample in spool.samples("backfill")) == {"sound": 2}
    broken.fault = None
    sampler.sample()
    events = [(event.kind, event.data) for event in spool.events()]
    assert events == [
        ("collector_failing", {"collector": "broken", "reason": "TypeError: not even an expected fault"}),
        ("collector_recovered", {"collector": "broken", "failures": 2}),
    ]
    assert failures.names() == []


def test_a_failing_collector_that_is_turned_off_fails_no_more(
    database: Database, spool: Spool, clock: DrivenClock
) -> None:
    broken = Probe("broken")
    broken.fault = OSError("no answer")
    failures, wanted = Failures(spool, database), [True]
    sampler = Sampler([Scheduled(broken, 60.0, lambda: wanted[0])], spool, Cadence(), clock, failures)
    sampler.sample()
    assert failures.names() == ["broken"]
    wanted[0] = False
    sampler.sample()
    assert failures.names() == []


async def test_failing_collectors_of_an_agent_that_takes_no_metrics_fail_no_more(
    database: Database, spool: Spool, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_client.collectors.sampling._BASELINE_SECONDS", 0.0)
    monkeypatch.setattr("agent_client.security.collector.FIRST_AFTER_SECONDS", (0.0, 0.0))
    failures, cadence = Failures(spool, database), Cadence(AgentConfig(metrics_enabled=False))
    for name in ("broken", "security"):
        failures.failed(name, "no answer")
    sampler = Sampler([Scheduled(Probe("broken"))], spool, cadence, clock, failures)
    rounds = Rounds(lambda: [SecurityCollector(lambda: False)], spool, cadence, clock, failures)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sampler.run()), group.create_task(rounds.run())]
        await until(lambda: not failures.names())
        for task in tasks:
            task.cancel()


def test_what_failed_before_a_restart_is_not_said_again_and_its_recovery_is(
    database: Database, spool: Spool, clock: DrivenClock
) -> None:
    Failures(spool, database).failed("custom.queue", "no answer")
    failures = Failures(spool, database)
    assert failures.names() == ["custom.queue"]
    failures.failed("custom.queue", "no answer")
    assert len(spool.events()) == 1
    failures.worked("custom.queue")
    failures.worked("custom.queue")
    assert [event.kind for event in spool.events()] == ["collector_failing", "collector_recovered"]
    assert Failures(spool, database).names() == []


def test_processes_and_logins_are_taken_only_where_the_settings_say_so(
    database: Database, spool: Spool, clock: DrivenClock
) -> None:
    cadence = Cadence()
    sampler = Sampler(standard_collectors(cadence), spool, cadence, clock, Failures(spool, database))
    sampler.sample()
    private = {"process_top", "logins"}
    assert not private & {sample.metric_type for sample in spool.samples("backfill")}
    cadence.apply(AgentConfig(processes_enabled=True, logins_enabled=True))
    sampler.sample()
    assert private <= {sample.metric_type for sample in spool.samples("backfill")}
