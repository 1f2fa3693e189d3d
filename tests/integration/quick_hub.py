"""`jtnt-hub` that hashes passwords cheaply: for tests to start that sign in often. That the default is dear has its own
test.
"""

from __future__ import annotations

import sys

from hub_server.access import credentials
from hub_server.access.passwords import Passwords
from hub_server.cli.main import run


def quick_passwords() -> Passwords:
    return Passwords(time_cost=1, memory_kib=8)


if __name__ == "__main__":
    vars(credentials)["Passwords"] = quick_passwords
    sys.exit(run(sys.argv[1:]))
