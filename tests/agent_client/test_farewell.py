from __future__ import annotations

from pathlib import Path

import pytest

from agent_client.farewell import reason_in, reason_of_stop
from protocol.enumerations import GoodbyeReason

# As systemd 252 prints them with --no-legend --plain --full.
REBOOTING = """\
2271 systemd-reboot.service start waiting
2262 jtnt-agent.service stop running
2270 reboot.target start waiting
2266 shutdown.target start waiting
2264 umount.target start waiting
"""
POWERING_OFF = REBOOTING.replace("reboot", "poweroff")
STOPPED_BY_A_PERSON = "1420 jtnt-agent.service stop running\n"


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [
        (REBOOTING, GoodbyeReason.RESTART),
        (POWERING_OFF, GoodbyeReason.SHUTDOWN),
        (STOPPED_BY_A_PERSON, GoodbyeReason.OPERATOR),
        ("2270 reboot.target stop waiting\n", GoodbyeReason.OPERATOR),
        ("", GoodbyeReason.OPERATOR),
        ("No jobs running.\n", GoodbyeReason.OPERATOR),
    ],
)
def test_the_jobs_of_systemd_tell_a_restart_from_a_shutdown_and_from_a_stop(jobs: str, reason: GoodbyeReason) -> None:
    assert reason_in(jobs) is reason


async def test_systemd_is_asked_where_it_runs(tmp_path: Path) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\n[ \"$1\" = list-jobs ] && cat <<'END'\n{REBOOTING}END\n")
    systemctl.chmod(0o700)
    assert await reason_of_stop(str(systemctl), tmp_path, tmp_path / "none") is GoodbyeReason.RESTART
    assert await reason_of_stop(str(tmp_path / "none"), tmp_path, tmp_path / "none") is GoodbyeReason.OPERATOR


async def test_without_systemd_the_file_that_keeps_people_out_tells_a_shutdown(tmp_path: Path) -> None:
    no_systemd, no_login = tmp_path / "systemd", tmp_path / "nologin"
    assert await reason_of_stop("none", no_systemd, no_login) is GoodbyeReason.OPERATOR
    no_login.touch()
    assert await reason_of_stop("none", no_systemd, no_login) is GoodbyeReason.SHUTDOWN
