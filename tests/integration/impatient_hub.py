"""`jtnt-hub` for which a second is a long pause, and agents that are awaited have few: for tests to start and to stop
for a moment.
"""

from __future__ import annotations

import sys
from typing import Final

from hub_server import pauses
from hub_server.cli.main import run
from hub_server.presence import engine

LONG_PAUSE_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 3.0


if __name__ == "__main__":
    vars(pauses)["LONG_PAUSE_SECONDS"] = LONG_PAUSE_SECONDS
    vars(engine)["OFFLINE_AFTER_SECONDS"] = PATIENCE_SECONDS
    sys.exit(run(sys.argv[1:]))
