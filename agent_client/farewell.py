"""Why this agent is told to stop: the machine goes down, starts anew, or only the agent is stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent_client.children import Child, ChildFailed, run_child
from protocol.enumerations import GoodbyeReason

SYSTEMD: Final = Path("/run/systemd/system")
NO_LOGIN: Final = Path("/run/nologin")
_ASK_SECONDS: Final = 2.0
_ANSWER_MAX_BYTES: Final = 256 * 1024
_RESTARTS: Final = frozenset({"reboot.target", "kexec.target", "soft-reboot.target"})
_SHUTDOWNS: Final = frozenset({"poweroff.target", "halt.target", "shutdown.target", "exit.target"})


async def reason_of_stop(
    systemctl: str = "systemctl", systemd: Path = SYSTEMD, no_login: Path = NO_LOGIN
) -> GoodbyeReason:
    """Ask systemd for the jobs it has under way, a bounded time; `operator` where nothing says otherwise.

    Without systemd, the file by which shutdown(8) keeps people from logging in tells that the machine goes down; a
    restart looks the same. macOS and Windows have no such sign: there it is always `operator`.
    """
    if (reason := _without_systemd(systemd, no_login)) is not None:
        return reason
    question = Child(
        argv=[systemctl, "list-jobs", "--no-legend", "--plain", "--full"],
        timeout_seconds=_ASK_SECONDS,
        output_max_bytes=_ANSWER_MAX_BYTES,
        environment=os.environ,
    )
    try:
        answer = await run_child(question)
    except ChildFailed:
        return GoodbyeReason.OPERATOR
    return reason_in(answer.output.decode(errors="replace"))


def _without_systemd(systemd: Path, no_login: Path) -> GoodbyeReason | None:
    if systemd.is_dir():
        return None
    return GoodbyeReason.SHUTDOWN if no_login.exists() else GoodbyeReason.OPERATOR


def reason_in(jobs: str) -> GoodbyeReason:
    """Read what `systemctl list-jobs` prints: a line a job with its number, unit, type and state."""
    starting = {words[1] for line in jobs.splitlines() if len(words := line.split()) > 2 and words[2] == "start"}
    if starting & _RESTARTS:
        return GoodbyeReason.RESTART
    return GoodbyeReason.SHUTDOWN if starting & _SHUTDOWNS else GoodbyeReason.OPERATOR
