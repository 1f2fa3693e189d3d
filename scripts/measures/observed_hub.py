"""`jtnt-hub` with one signal more: SIGUSR2 makes it do a full garbage collection, so that a window can contain one."""

from __future__ import annotations

import gc
import signal
import sys
from types import FrameType

from hub_server.cli.main import run


def collect(_number: int, _frame: FrameType | None) -> None:
    gc.collect()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, collect)
    sys.exit(run(sys.argv[1:]))
