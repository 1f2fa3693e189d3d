"""`jtnt-hub bench`: what users call; whether it measures, never what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hub_server.cli.main import run
from hub_server.cli.outcome import Exit

HUB = Path(sys.executable).parent / "jtnt-hub"
DEADLINE_SECONDS = 120.0
FIGURES = {
    "hub start → /readyz",
    "machines enrolled",
    "hub, CPU with 3 agents",
    "sample frame → acknowledged",
    "samples committed and acknowledged, 200 samples a frame",
    "samples committed and acknowledged, one sample a frame",
}


def test_it_measures_a_hub_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["bench", "--agents", "3", "--seconds", "1", "--folder", str(tmp_path), "--json"]
    done = subprocess.run([HUB, *arguments], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["figure"]["name"]: row["figure"] for row in json.loads(done.stdout)["rows"]}
    assert rows.keys() >= FIGURES
    assert all(rows[name]["p50"] is not None for name in FIGURES - {"sample frame → acknowledged"})
    assert rows["samples acknowledged and gone after kill -9"]["p50"] == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--agents", "0"], "--agents"),
        (["--seconds", "0.5"], "--seconds"),
        (["--folder", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_measure_that_cannot_be_is_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *arguments]) in {Exit.USAGE, Exit.NOT_WRITABLE}
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
