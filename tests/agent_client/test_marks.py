"""A journal that was lost or went back, and one of an earlier version: nothing that may have run runs again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent_client.execution.journal import Journal
from agent_client.execution.link import has_open_jobs
from agent_client.execution.marks import Marks, inherit
from agent_client.paths import Places
from agent_client.spool.database import Database
from agent_client.store.secure import SecureStore
from protocol.enumerations import CommandOutcome, JobState
from protocol.frames import CommandResult
from tests.agent_client.clock import START_MS, DrivenClock
from tests.agent_client.fleet import AGENT, Fleet

FLEET = Fleet()


class Machine:
    """Starts executors on one folder, as far as the journal goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = DrivenClock()

    def start(self, owner: str = AGENT) -> tuple[Journal, Marks]:
        self.database = Database(self.folder / "journal.db")
        inherit(self.database, self.folder / "spool.db")
        journal = Journal(self.database, self.clock)
        marks = Marks(self.database, journal, SecureStore(self.folder / "marks"), owner)
        marks.open()
        return journal, marks

    def life(self, *job_ids: str) -> None:
        """Start, accept orders, and end."""
        journal, marks = self.start()
        for job_id in job_ids:
            accept(journal, job_id)
        marks.note()
        self.database.close()
        self.clock.advance(1)

    def put_back(self, saved: Path) -> None:
        for path in self.folder.glob("journal.*"):
            path.unlink()
        for path in saved.glob("journal.*"):
            shutil.copy(path, self.folder)

    def save(self) -> Path:
        saved = self.folder / "saved"
        saved.mkdir()
        for path in self.folder.glob("journal.*"):
            shutil.copy(path, saved)
        return saved


def accept(journal: Journal, job_id: str) -> None:
    journal.accept(FLEET.envelope(job_id, ["true"], issued_at=START_MS), b"payload")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_journal_that_was_left_is_trusted(machine: Machine) -> None:
    assert not has_open_jobs(Places.inside(machine.folder))
    machine.life()
    machine.life("job-1")
    journal, _ = machine.start()
    assert journal.not_before_ms == 0
    assert journal.find("job-1") is not None
    machine.database.close()


def test_orders_from_before_a_deleted_journal_are_refused(machine: Machine) -> None:
    machine.life("job-1")
    for path in machine.folder.glob("journal.*"):
        path.unlink()
    journal, _ = machine.start()
    assert journal.not_before_ms == machine.clock.now_ms()
    machine.database.close()


@pytest.mark.parametrize("later", ["accepted", "begun", "only started anew"])
def test_orders_from_before_a_journal_that_was_put_back_are_refused_and_what_it_holds_never_runs(
    machine: Machine, later: str
) -> None:
    machine.life("job-1")
    journal, marks = machine.start()
    saved = machine.save()
    if later == "accepted":
        accept(journal, "job-2")
    elif later == "begun":
        journal.start("job-1")
    marks.note()
    machine.database.close()
    if later == "only started anew":
        machine.life()
    machine.put_back(saved)
    journal, _ = machine.start()
    assert journal.not_before_ms == machine.clock.now_ms()
    assert journal.not_started() == []
    machine.database.close()


def test_the_marks_of_another_agent_count_for_nothing(machine: Machine) -> None:
    machine.life("job-1")
    for path in machine.folder.glob("journal.*"):
        path.unlink()
    journal, _ = machine.start(owner="agent-2")
    assert journal.not_before_ms == 0
    machine.database.close()


def test_the_jobs_of_an_earlier_version_are_taken_over_once(machine: Machine) -> None:
    spool = Database(machine.folder / "spool.db")
    before = Journal(spool, machine.clock)
    accept(before, "open")
    before.finish(CommandResult(command_id="open", status=CommandOutcome.COMPLETED))
    accept(before, "waiting")
    mark = before.effective_now_ms()
    assert has_open_jobs(Places.inside(machine.folder))
    machine.clock.wall_ms -= 1000
    machine.life("new")
    before.acknowledge("open")
    accept(before, "later")
    assert has_open_jobs(Places.inside(machine.folder))
    spool.close()
    journal, _ = machine.start()
    assert {entry.command_id: entry.state for entry in journal.open_entries()} == {
        "open": JobState.FINISHED,
        "waiting": JobState.ACCEPTED,
        "new": JobState.ACCEPTED,
    }
    assert journal.effective_now_ms() >= mark
    machine.database.close()


def test_where_the_jobs_of_an_earlier_version_cannot_be_read_earlier_orders_are_refused(machine: Machine) -> None:
    (machine.folder / "spool.db").write_bytes(b"damaged" * 1000)
    journal, _ = machine.start()
    assert journal.not_before_ms == machine.clock.now_ms()
    machine.database.close()
