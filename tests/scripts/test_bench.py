"""The bench as a person calls it: real hub, real agent, simulated fleet; whether it measures, never what."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import CACHE

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 200.0
FIGURES = {
    "hub start → /readyz",
    "agent start → welcome",
    "agent, private memory",
    "agent, CPU",
    "hub, private memory an agent",
    "event loop, lateness",
    "sample frame → acknowledged",
    "sample taken → dashboard",
    "command → first output, simulated agent",
    "command → first output, real agent runs echo",
    "command → result, real agent runs true",
    "disk, 4 KB written and synced",
    "alert opened → dashboard",
    "samples committed and acknowledged, 200 samples a frame",
    "samples committed and acknowledged, one sample a frame",
    "8 agents back after kill -9",
    "hub, CPU a handshake and upgrade",
    "hub, CPU a delivered sample",
    "50 of 8 agents",
    "chart of 24 h",
    "store, CPU a sample",
    "store, size of a packed sample",
}


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scripts.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What `bench --quick` printed, and what it wrote."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    before = set(CACHE.glob("run-*"))
    done = bench("--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads(file.read_bytes())
    return done.stdout, {**written, "left": sorted(set(CACHE.glob("run-*")) - before)}


def test_a_quick_run_measures_everything_on_a_real_hub(quick_run: tuple[str, dict[str, Any]]) -> None:
    _, written = quick_run
    rows = {row["figure"]["name"]: row for row in written["rows"]}
    assert rows.keys() >= FIGURES
    for name in FIGURES:
        figure = rows[name]["figure"]
        assert figure["n"] > 0, figure
        assert figure["p50"] is not None, figure


def test_every_figure_stands_in_the_table_beside_its_target(quick_run: tuple[str, dict[str, Any]]) -> None:
    printed, written = quick_run
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    for row in written["rows"]:
        (line,) = [line for line in lines if line.split("|")[1].strip() == row["figure"]["name"]]
        assert f" {row['verdict']} " in line
    assert written["machine"]["cpu"] in printed


def test_the_window_holds_a_full_garbage_collection(quick_run: tuple[str, dict[str, Any]]) -> None:
    _, written = quick_run
    assert any(row["figure"]["name"] == "event loop, a full garbage collection" for row in written["rows"])


def test_no_sample_is_lost_and_none_stored_twice(quick_run: tuple[str, dict[str, Any]]) -> None:
    _, written = quick_run
    values = {row["figure"]["name"]: row["figure"]["p50"] for row in written["rows"]}
    assert values["samples acknowledged and gone after kill -9"] == 0
    assert values["samples stored twice"] == 0


def test_nothing_is_left_of_a_run(quick_run: tuple[str, dict[str, Any]]) -> None:
    _, written = quick_run
    assert not written["left"]


def test_an_unknown_measure_is_refused_with_those_there_are() -> None:
    done = bench("speed")
    assert done.returncode != 0
    assert "start, agent, hub, command, ingest, storm, fanout, query" in done.stderr
