from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.execution.journal import ACKNOWLEDGED_A_CHECKPOINT, KEPT_SECONDS, Journal
from agent_client.spool.database import Database
from agent_client.spool.spool import Spool, SpoolBound
from protocol.enumerations import CommandOutcome, JobState
from protocol.frames import CommandResult
from tests.agent_client.clock import START_MS, DrivenClock
from tests.agent_client.fleet import Fleet

FLEET = Fleet()
LOG_HEADER_BYTES = 32


@pytest.fixture
def clock() -> DrivenClock:
    return DrivenClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "spool.db")
    yield database
    database.close()


def accept(journal: Journal, job_id: str, issued_at: int = START_MS, expires_at: int = START_MS + 60_000) -> None:
    journal.accept(FLEET.envelope(job_id, ["true"], issued_at=issued_at, expires_at=expires_at), b"payload")


def result(job_id: str) -> CommandResult:
    return CommandResult(command_id=job_id, status=CommandOutcome.COMPLETED, exit_code=0)


def test_each_step_is_on_disk_when_its_call_returns(tmp_path: Path, clock: DrivenClock) -> None:
    def seen_by_another() -> JobState | None:
        other = Database(tmp_path / "spool.db")
        entry = Journal(other, clock).find("job-1")
        other.close()
        return entry.state if entry else None

    database = Database(tmp_path / "spool.db")
    journal = Journal(database, clock)
    assert seen_by_another() is None
    accept(journal, "job-1")
    assert seen_by_another() is JobState.ACCEPTED
    journal.start("job-1")
    assert seen_by_another() is JobState.STARTED
    journal.finish(result("job-1"))
    assert seen_by_another() is JobState.FINISHED
    database.close()


def test_an_order_never_waits_for_the_log_to_be_emptied_or_begun_anew(
    database: Database, clock: DrivenClock, tmp_path: Path
) -> None:
    def emptied_and_begun() -> tuple[bytes, bytes]:
        return (tmp_path / "spool.db").read_bytes(), (tmp_path / "spool.db-wal").read_bytes()[:LOG_HEADER_BYTES]

    journal, seen = Journal(database, clock), set()
    for number in range(3 * ACKNOWLEDGED_A_CHECKPOINT):
        before = emptied_and_begun()
        envelope = FLEET.envelope(f"job-{number}", ["true"], issued_at=START_MS, expires_at=START_MS + 60_000)
        journal.accept(envelope, b"payload", starts=True)
        assert emptied_and_begun() == before
        journal.finish(result(f"job-{number}"))
        journal.acknowledge(f"job-{number}")
        seen.add(emptied_and_begun())
    assert len(seen) >= 3


def test_a_result_is_open_until_the_hub_holds_it_and_its_id_is_known_after(
    database: Database, clock: DrivenClock
) -> None:
    journal = Journal(database, clock)
    accept(journal, "job-1")
    journal.acknowledge("job-1")
    assert [entry.command_id for entry in journal.open_entries()] == ["job-1"]
    journal.finish(result("job-1"))
    journal.acknowledge("job-1")
    assert journal.open_entries() == []
    entry = journal.find("job-1")
    assert entry is not None
    assert entry.result == result("job-1")


def test_a_job_is_forgotten_only_a_week_after_its_order_could_still_run(database: Database, clock: DrivenClock) -> None:
    journal = Journal(database, clock)
    accept(journal, "old")
    accept(journal, "not acknowledged")
    journal.finish(result("old"))
    journal.acknowledge("old")
    clock.advance(60 + KEPT_SECONDS)
    accept(journal, "at the edge", issued_at=clock.now_ms())
    journal.prune()
    assert journal.find("old") is not None
    clock.advance(1)
    accept(journal, "beyond it", issued_at=clock.now_ms())
    journal.prune()
    assert journal.find("old") is None
    assert journal.find("not acknowledged") is not None


def test_a_clock_that_ran_ahead_for_a_while_has_no_order_forgotten_that_could_still_run(
    database: Database, clock: DrivenClock
) -> None:
    journal = Journal(database, clock)
    accept(journal, "job-1")
    journal.finish(result("job-1"))
    journal.acknowledge("job-1")
    clock.advance(60 + 2 * KEPT_SECONDS)
    journal.prune()
    clock.advance(-60 - 2 * KEPT_SECONDS)
    assert journal.find("job-1") is not None


def test_a_clock_that_goes_back_does_not_revive_what_has_expired(tmp_path: Path, clock: DrivenClock) -> None:
    database = Database(tmp_path / "spool.db")
    journal = Journal(database, clock)
    clock.advance(3600)
    accept(journal, "job-1", issued_at=clock.now_ms())
    mark = clock.now_ms()
    clock.wall_ms -= 2 * 3600 * 1000
    assert journal.effective_now_ms() == mark
    database.close()
    again = Database(tmp_path / "spool.db")
    assert Journal(again, clock).effective_now_ms() == mark
    again.close()


def test_an_order_from_the_future_does_not_move_the_mark_beyond_the_clock(
    database: Database, clock: DrivenClock
) -> None:
    journal = Journal(database, clock)
    accept(journal, "job-1", issued_at=START_MS + 10**10)
    assert journal.effective_now_ms() == START_MS


def test_a_clock_that_once_ran_ahead_does_not_expire_everything_for_ever(
    database: Database, clock: DrivenClock
) -> None:
    journal = Journal(database, clock)
    clock.wall_ms += 10**10
    accept(journal, "job-1", issued_at=START_MS)
    clock.wall_ms -= 10**10
    assert journal.effective_now_ms() == START_MS


def test_a_journal_after_a_damaged_one_names_the_time_from_which_it_knows(tmp_path: Path, clock: DrivenClock) -> None:
    (tmp_path / "spool.db").write_bytes(b"damaged" * 1000)
    database = Database(tmp_path / "spool.db")
    Spool(database, clock, SpoolBound(10**6, 1000), owner="agent-1")
    Journal(database, clock)
    database.close()
    clock.advance(100)
    again = Database(tmp_path / "spool.db")
    Spool(again, clock, SpoolBound(10**6, 1000), owner="agent-1")
    assert Journal(again, clock).not_before_ms == START_MS
    again.close()
