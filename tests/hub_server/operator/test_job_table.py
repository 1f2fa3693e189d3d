"""The table of jobs fits where it is read."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from hub_server.operator.cli.job_table import job_lines
from protocol.commands import CommandView
from protocol.enumerations import CommandReason, CommandStatus
from tests.hub_server.operator.test_printing import VIEW

MACHINES = {"m1": "web-1.europe.example (11111111)", "m2": "web-1.europe.example (22222222)"}


def job(id_: str, agent_id: str = "m1", **changes: Any) -> CommandView:
    status = {"status": CommandStatus.FAILED, "reason": CommandReason.EXIT_CODE, "exit_code": 3}
    return structs.replace(VIEW, id=id_, agent_id=agent_id, **{**status, **changes})


@pytest.mark.parametrize("most_chars", [100, 80])
def test_it_is_no_wider_than_its_place_and_still_tells_jobs_and_machines_apart(most_chars: int) -> None:
    jobs = [
        job("aaaaaaaa-1", command_data={"argv": ["x" * 300]}, purpose="y" * 300, created_by="user:ada"),
        job("bbbbbbbb-1", "m2", created_by="key:deploys-of-the-night"),
        job("cccccccc-1", reason=CommandReason.INTERRUPTED),
    ]
    lines = job_lines(jobs, MACHINES, most_chars)
    assert max(map(len, lines)) <= most_chars
    assert [line.split()[0] for line in lines] == ["ID", "aaaaaaaa", "bbbbbbbb", "cccccccc"]
    assert ["(11111111)" in lines[1], "(22222222)" in lines[2], "FAILED 3  " in lines[1]] == [True] * 3


def test_what_has_room_is_whole_and_reasons_that_nobody_gave_take_none() -> None:
    jobs = [
        job("aaaaaaaa-1", reason=CommandReason.DENIED_BY_AGENT, exit_code=None),
        job("aaaaaaaa-2", status=CommandStatus.CANCELLED, reason=CommandReason.CANCELLED_BY_PERSON),
    ]
    titles, denied, cancelled = job_lines(jobs, MACHINES, 500)
    assert titles.split()[-1] == "WHAT"
    assert [line.split()[0] for line in (denied, cancelled)] == ["aaaaaaaa-1", "aaaaaaaa-2"]
    assert "web-1.europe.example (11111111)  FAILED denied  " in denied
    assert "  CANCELLED  " in cancelled
