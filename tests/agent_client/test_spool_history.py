"""A spool that was deleted or put back to an earlier state, and a wall clock that jumps."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent_client.execution.jobs import JobBounds, Jobs
from agent_client.execution.journal import Journal
from agent_client.execution.terms import Terms
from agent_client.spool.database import Damaged, Database
from agent_client.spool.history import History
from agent_client.spool.ledger import STREAMS, Stream
from agent_client.spool.spool import Spool, SpoolBound
from agent_client.store.secure import SecureStore
from protocol.enumerations import CommandReason
from protocol.frames import MetricData, StreamAck
from tests.agent_client.clock import DrivenClock
from tests.agent_client.fleet import Fleet

ROOMY = SpoolBound(max_bytes=64 * 1024 * 1024, max_age_seconds=72 * 3600)


class Machine:
    """One agent's folder, whose daemon is started and stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "spool.db"
        self.clock = DrivenClock()
        self.start()

    def start(self, boot_id: str = "boot-1") -> None:
        self.database = Database(self.path)
        self.spool = Spool(self.database, self.clock, ROOMY, owner="agent-1", boot_id=boot_id)
        self.history = History(self.database, self.spool, SecureStore(self.folder / "marks"), "agent-1")
        self.history.open()
        self.journal = Journal(self.database, self.clock)

    def stop(self, *, is_killed: bool = False) -> None:
        if not is_killed:
            self.history.close()
        self.database.close()

    def take(self, *numbers: int, lane: Stream = "live") -> None:
        for number in numbers:
            self.spool.append_samples(lane, self.clock.now_ms(), [("system", {"n": number})])

    def numbers(self) -> dict[int, object]:
        """Return what each sequence stands for."""
        return {sample.seq: sample.metric_data["n"] for sample in self.spool.samples("live")}

    def told(self, kind: str) -> list[MetricData]:
        return [event.data for event in self.spool.events(limit=1000) if event.kind == kind]

    def acks(self, *ranges: tuple[int, int]) -> dict[str, StreamAck]:
        return {"live": StreamAck(epoch=self.spool.epoch("live"), ranges=[*ranges])}

    def gaps(self, epoch: int) -> list[tuple[object, ...]]:
        return [
            (gap["cause"], gap["first_seq"], gap["last_seq"], gap["dropped"])
            for gap in self.told("gap")
            if (gap["stream"], gap["epoch"]) == ("live", epoch)
        ]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_restarts_orderly_and_not_change_nothing(machine: Machine) -> None:
    machine.take(1, 2)
    epochs = [machine.spool.epoch(stream) for stream in STREAMS]
    ends = [machine.history.was_orderly]
    machine.stop()
    machine.start()
    ends.append(machine.history.was_orderly)
    machine.take(3)
    machine.stop(is_killed=True)
    machine.start()
    ends.append(machine.history.was_orderly)
    assert ends == [False, True, False]
    machine.spool.reconcile(machine.acks((1, 1)))
    assert [machine.spool.epoch(stream) for stream in STREAMS] == epochs
    assert machine.numbers() == {2: 2, 3: 3}
    assert machine.told("spool_renewed") == []


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_spool_put_back_between_two_lives_loses_nothing_it_has_and_repeats_no_number(
    machine: Machine, is_killed: bool
) -> None:
    machine.take(1, 2, 3)
    machine.stop()
    shutil.copy(machine.path, machine.folder / "backup")
    machine.start()
    machine.take(4, 5, 6)
    machine.stop(is_killed=is_killed)
    shutil.copy(machine.folder / "backup", machine.path)
    machine.start()
    old = machine.spool.epoch("live")
    machine.take(40, 50)
    machine.stop()
    machine.start()
    machine.spool.reconcile(machine.acks((1, 2), (4, 4), (6, 6)))
    new = machine.spool.epoch("live")
    assert new != old
    assert machine.numbers() == {3: 3, 4: 40, 5: 50}
    assert machine.told("spool_renewed") == [{"cause": "restored"}]
    assert machine.gaps(old) == [("renewed", 3, 3, 0), ("restored", 5, 5, 1)]
    assert machine.gaps(new) == [("renewed", 1, 2, 0)]
    assert machine.spool.dropped() == {"live": 1}
    machine.spool.reconcile(machine.acks((3, 3)))
    assert (machine.spool.epoch("live"), machine.numbers()) == (new, {4: 40, 5: 50})


def test_a_copy_of_the_running_spool_put_back_after_an_orderly_stop_is_noticed(machine: Machine) -> None:
    machine.take(1)
    with closing(sqlite3.connect(machine.folder / "backup")) as copy, closing(sqlite3.connect(machine.path)) as now:
        now.backup(copy)
    machine.take(2)
    machine.stop()
    shutil.copy(machine.folder / "backup", machine.path)
    machine.start()
    assert machine.database.has_forgotten
    assert machine.told("spool_renewed") == [{"cause": "restored"}]


def test_a_whole_folder_put_back_is_found_out_by_what_the_hub_holds(machine: Machine) -> None:
    machine.take(1, 2, 3)
    machine.stop()
    machine.start()
    old = machine.spool.epoch("live")
    machine.take(40)
    machine.spool.reconcile(machine.acks((1, 9)))
    assert machine.spool.epoch("live") != old
    assert machine.numbers() == {4: 40}
    assert machine.told("spool_renewed") == [{"cause": "restored"}]
    assert machine.journal.not_before_ms == machine.clock.now_ms()


def test_a_spool_deleted_between_two_lives_is_said_and_begins_new_epochs(machine: Machine) -> None:
    machine.take(1)
    old = machine.spool.epoch("live")
    machine.stop()
    machine.path.unlink()
    machine.start()
    assert machine.spool.epoch("live") != old
    assert machine.told("spool_renewed") == [{"cause": "deleted"}]
    assert machine.journal.not_before_ms == machine.clock.now_ms()


@pytest.mark.parametrize("is_exchanged", [False, True])
def test_a_spool_deleted_or_exchanged_under_the_running_agent_is_put_back_whole(
    machine: Machine, tmp_path: Path, is_exchanged: bool
) -> None:
    machine.take(1, 2)
    epoch = machine.spool.epoch("live")
    machine.path.unlink()
    if is_exchanged:
        other = Database(tmp_path / "other" / "spool.db")
        other.close()
        (tmp_path / "other" / "spool.db").replace(machine.path)
    machine.take(3)
    machine.stop(is_killed=True)
    machine.start()
    assert machine.spool.epoch("live") == epoch
    assert machine.numbers() == {1: 1, 2: 2, 3: 3}
    assert machine.told("spool_renewed") == [{"cause": "rescued"}]
    assert machine.path.stat().st_mode & 0o777 == 0o600


def test_orders_that_a_restored_journal_does_not_know_the_end_of_never_run_again(machine: Machine) -> None:
    envelope = Fleet().envelope("job-1", ["true"])
    machine.journal.accept(envelope, b"{}")
    machine.stop()
    shutil.copy(machine.path, machine.folder / "backup")
    machine.start()
    machine.journal.start("job-1")
    machine.stop()
    shutil.copy(machine.folder / "backup", machine.path)
    machine.start()

    def terms() -> Terms:
        raise AssertionError("no order is judged")

    jobs = Jobs(machine.journal, terms, machine.clock, machine.folder / "jobs", JobBounds(8, 1.0))
    result = jobs.open["job-1"].result
    assert result is not None
    assert result.reason is CommandReason.INTERRUPTED
    assert machine.journal.not_before_ms == machine.clock.now_ms()


def test_a_file_that_something_else_wrote_into_is_noticed_and_replaced_at_the_next_start(machine: Machine) -> None:
    noticed: list[bool] = []
    machine.database.on_damage = lambda: noticed.append(True)
    machine.take(*range(50))
    machine.stop()
    machine.start()
    machine.database.on_damage = lambda: noticed.append(True)
    with closing(sqlite3.connect(machine.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = machine.path.read_bytes()
    machine.path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(Damaged):
        machine.database.rows("SELECT COUNT(*) FROM entries")
    assert noticed == [True]
    machine.database.close()
    machine.start()
    assert machine.database.replaced == machine.folder / "spool.damaged"
    machine.take(1)
    assert machine.numbers() == {1: 1}


def test_times_of_this_boot_move_with_a_step_of_the_clock_and_those_before_do_not(machine: Machine) -> None:
    clock = machine.clock
    machine.take(1)
    before = clock.now_ms()
    machine.stop()
    machine.start(boot_id="boot-2")
    clock.advance(10)
    machine.take(2)
    taken = clock.now_ms()
    machine.stop()
    machine.start(boot_id="boot-2")
    clock.wall_ms += 86_400_000
    machine.take(3)
    times = [sample.ts for sample in machine.spool.samples("live")]
    assert times == [before, taken + 86_400_000, clock.now_ms()]
    assert machine.told("clock_stepped") == [{"by_ms": 86_400_000}]
    assert machine.spool.stepped.is_set()


def test_a_clock_that_is_slewed_and_a_machine_that_slept_make_no_step(machine: Machine) -> None:
    clock = machine.clock
    machine.take(1)
    taken = clock.now_ms()
    for _ in range(100):
        clock.advance(10)
        clock.wall_ms += 1500
        assert machine.spool.keep_time() == 0
    assert [sample.ts for sample in machine.spool.samples("live")] == [taken]
    assert machine.told("clock_stepped") == []


def test_a_sample_whose_time_was_read_before_the_step_moves_too(machine: Machine) -> None:
    read = machine.clock.now_ms()
    machine.clock.wall_ms -= 3_600_000
    machine.spool.append_samples("live", read, [("system", {"n": 1})])
    assert [sample.ts for sample in machine.spool.samples("live")] == [machine.clock.now_ms()]


def test_a_step_of_the_clock_makes_no_sample_of_this_boot_too_old(machine: Machine) -> None:
    machine.take(1, 2)
    machine.clock.wall_ms += 96 * 3_600_000
    machine.spool.trim_age()
    assert machine.numbers() == {1: 1, 2: 2}
