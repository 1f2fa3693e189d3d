"""`scripts/dev.py` as a person calls it, in this folder, which is set up."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from scripts import verbs
from scripts.environment import Environment, Part, SetupFailed

ROOT = Path(__file__).resolve().parents[2]
DEV = ROOT / "scripts/dev.py"
DEADLINE_SECONDS = 60.0


def dev(*arguments: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(DEV), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)


def test_a_warm_start_says_and_does_nothing_of_its_own() -> None:
    stamp = Environment(ROOT).stamp
    before = stamp.stat().st_mtime_ns
    done = dev("run", "python", "-c", "print('done')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert stamp.stat().st_mtime_ns == before


def test_a_program_runs_in_the_environment_and_in_the_callers_folder(tmp_path: Path) -> None:
    done = dev("run", "python", "-c", "import os, sys; print(sys.prefix); print(os.getcwd())", folder=tmp_path)
    assert done.stdout.splitlines() == [str(Environment(ROOT).home), str(tmp_path)]


def test_the_packages_are_importable_from_any_folder(tmp_path: Path) -> None:
    assert dev("run", "python", "-c", "import protocol, hub_server, agent_client", folder=tmp_path).returncode == 0


def test_the_exit_code_is_the_programs_own() -> None:
    assert dev("run", "python", "-c", "raise SystemExit(42)").returncode == 42


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot replace itself there")
def test_the_program_takes_the_place_of_the_script_so_that_signals_reach_it() -> None:
    command = [sys.executable, str(DEV), "run", "python", "-c", "import os; print(os.getpid())"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert int(said) == process.pid


def test_a_program_that_is_not_there_is_said_in_one_line() -> None:
    done = dev("run", "no-such-program")
    assert done.returncode == verbs.NOT_FOUND
    assert done.stderr.count("\n") == 1
    assert "'no-such-program'" in done.stderr


def test_help_names_every_verb_and_shows_examples() -> None:
    done = dev("--help")
    assert done.returncode == 0
    for verb in ("up", "test", "check", "lock", "bench", "prove", "run", "generate"):
        assert f"\n  {verb} " in done.stdout
    assert "python3 scripts/dev.py test -k" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("no-such-verb",)])
def test_without_a_known_verb_the_usage_is_said(arguments: tuple[str, ...]) -> None:
    done = dev(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python3 scripts/dev.py VERB")


def test_arguments_go_to_the_verbs_program_in_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Sequence[str], Path]] = []

    def become(_: Environment, command: Sequence[str], folder: Path) -> int:
        asked.append((command, folder))
        return 5

    monkeypatch.setattr(verbs, "set_up", lambda root, _: Environment(root))
    monkeypatch.setattr(verbs, "become", become)
    assert verbs.main(["test", "-k", "enrollment", "--help"]) == 5
    assert asked == [(("python", "-m", "pytest", *verbs.SIDE_BY_SIDE, "-k", "enrollment", "--help"), ROOT)]


def test_a_set_up_that_fails_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Environment:
        raise SetupFailed("the disk is full")

    monkeypatch.setattr(verbs, "set_up", fail)
    assert verbs.main(["up"]) == 1
    assert capsys.readouterr().err == "jtnt: the disk is full\n"


def test_help_of_up_comes_before_anything_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Environment:
        raise AssertionError("nothing is to be set up for help")

    monkeypatch.setattr(verbs, "set_up", refuse)
    assert verbs.main(["up", "--help"]) == 0
    without_packages = [sys.executable, "-I", "-S", str(DEV), "up", "--help"]
    done = subprocess.run(without_packages, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert (done.returncode, "--web-port" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["bench", "--help"], frozenset()),
        (["run", "jtnt-hub", "serve", "--data-dir", "x"], frozenset({Part.BUNDLE})),
        (["run", "jtnt-hub", "serve", "--help"], frozenset()),
        (["run", "jtnt-hub", "doctor"], frozenset()),
        (["run", "jtnt-agent", "--help"], frozenset()),
        (["up"], frozenset({Part.BUNDLE})),
    ],
)
def test_only_what_serves_the_dashboard_waits_for_it(arguments: list[str], parts: frozenset[Part]) -> None:
    assert verbs.parts_for(arguments[0], arguments[1:]) == parts


def test_an_old_python_is_said_in_one_line() -> None:
    pretend = f"import runpy, sys; sys.version_info = (3, 10, 1); runpy.run_path({str(DEV)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Python 3.11 or newer is needed; this one is 3.10\n"


def test_every_check_runs_although_an_earlier_one_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps: Mapping[str, tuple[str, ...]] = {
        "first": ("python", "-c", "raise SystemExit(3)"),
        "second": ("python", "-c", "print('the second ran')"),
        "third": ("no-such-program",),
    }
    assert verbs.run_all(Environment(ROOT), steps) == 1
    said = capfd.readouterr()
    assert "the second ran" in said.out
    assert "FAILED  first" in said.err
    assert "ok      second" in said.err
    assert "FAILED  third" in said.err


def test_checks_that_all_succeed_succeed() -> None:
    assert verbs.run_all(Environment(ROOT), {"only": ("python", "-c", "")}) == 0
