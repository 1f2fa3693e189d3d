"""A power cut after a job's end is on disk does not take its output, or the result says so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent_client.execution import capture
from agent_client.store.secure import SecureStore
from protocol.enumerations import JobState
from protocol.frames import CommandResult
from tests.agent_client.clock import SteppingClock
from tests.agent_client.lives import Life, order

SAYS_MUCH = ["sh", "-c", "seq 2000; echo why >&2"]


async def test_output_and_its_files_names_are_on_disk_before_the_end_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path, SteppingClock())
    seen: list[tuple[str, int, JobState]] = []

    def state() -> JobState:
        entry = life.journal.find("synced-1")
        assert entry is not None
        return entry.state

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        seen.append((path.suffix, path.stat().st_size, state()))

    monkeypatch.setattr(capture, "_sync", note)
    monkeypatch.setattr(SecureStore, "sync", lambda store: seen.append((store.directory.name, 0, state())))
    async with life.running():
        life.jobs.receive(order("synced-1", *SAYS_MUCH, output_limit_bytes=1000))
        result = await life.first(CommandResult)
    life.close()
    kept = sum(size for _, size, _ in seen)
    assert 900 < kept <= 1000 < sum(result.output_bytes.values())
    *files, folder = [where for where, _, _ in seen]
    assert (sorted(files), folder) == ([".stderr", ".stdout"], "jobs")
    assert {state for _, _, state in seen} == {JobState.STARTED}


async def test_output_that_the_disk_does_not_keep_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(capture, "_sync", fail)
    life = Life(tmp_path, SteppingClock())
    async with life.running():
        life.jobs.receive(order("synced-1", "echo", "hello"))
        result = await life.first(CommandResult)
    life.close()
    assert result.exit_code == 0
    assert result.truncated
