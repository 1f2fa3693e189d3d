"""What `up` ends with itself is whoever holds the lock, and nobody else."""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import services
from scripts.services import stop_holder


@contextmanager
def asleep(*descriptors: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], pass_fds=descriptors) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_number_that_the_holder_before_has_left_behind_is_nobody_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "executor.lock"
    with asleep() as stranger, lock.open("w+") as file:
        file.write(str(stranger.pid))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with asleep(file.fileno()) as holder:
            file.close()  # the holder has it now, and writes its own number a moment later
            clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _seconds: lock.write_text(str(holder.pid)))
            monkeypatch.setattr(services, "time", clock)
            stop_holder("it", lock)
            assert holder.wait(10) != 0
        assert stranger.poll() is None
