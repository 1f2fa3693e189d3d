"""`prove` prints a line a step and says with its exit code whether all hold."""

from __future__ import annotations

import pytest

from scripts import prove
from scripts.proofs.report import Report


async def holds() -> str:
    return "7 ms"


async def fails() -> str:
    raise AssertionError("12 lost")


async def test_a_line_says_what_holds_with_its_figure(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    await report.show("fast", holds)
    assert report.end() == 0
    assert capsys.readouterr().out.split()[:4] == ["PASS", "fast", "7", "ms"]


async def test_a_step_that_fails_is_told_and_the_next_one_is_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    await report.show("nothing lost", fails)
    await report.show("fast", holds)
    assert report.end() == 1
    said = capsys.readouterr().out
    assert "FAIL  nothing lost" in said
    assert "12 lost" in said
    assert "PASS  fast" in said


async def test_nothing_shown_is_no_proof() -> None:
    report = Report(only="a word of no step")
    await report.show("fast", fails)
    assert report.end() == 1


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        prove.main(["no-such-proof"])
    assert refused.value.code == 2
    assert "main-job" in capsys.readouterr().err
