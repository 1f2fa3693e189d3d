"""An executor that is killed right before it makes the first process of a job; its next life in the folder is whole."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agent_client.execution.executor import main


def die_before_the_first_process(mark: Path) -> None:
    def watch(event: str, _arguments: tuple[object, ...]) -> None:
        if event == "subprocess.Popen" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    die_before_the_first_process(Path(sys.argv[1]) / "died")
    sys.exit(main())
