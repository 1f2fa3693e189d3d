"""What the machine's own policy is held against, taken from the machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from agent_client.execution.process import environment_of
from agent_client.policy.file import PolicyState
from agent_client.policy.terms import Policy
from agent_client.policy.verdict import Circumstances

if sys.platform != "win32":
    import pwd


def circumstances(state: PolicyState, *, now_ms: int, accepted_last_hour: Callable[[], int]) -> Circumstances:
    """Return them for a job that is judged at `now_ms`. Without a policy nothing else is looked at."""
    if not isinstance(state, Policy):
        return Circumstances(state=state)
    return Circumstances(
        state=state,
        local_now=datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(),
        accepted_last_hour=0 if state.said.per_hour is None else accepted_last_hour(),
        own_user=own_user(),
        find_program=found_program,
    )


def own_user() -> str:
    """Return whom this process runs as, whatever its environment says; an empty text for a user without a name."""
    if sys.platform == "win32":
        return os.environ.get("USERNAME", "")
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def found_program(program: str, environment: Mapping[str, str]) -> str | None:
    """Return where a job with this environment finds `program`."""
    return shutil.which(program, path=environment_of(environment).get("PATH"))
