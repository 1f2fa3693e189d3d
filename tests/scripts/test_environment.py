"""The set-up knows when there is nothing to do, notices what changed, and says in one line what is in its way."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import environment as subject
from scripts.environment import Environment, Part, SetupFailed, is_installed, set_up, sole_right, stamped, wanted

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0


def folder_like_ours(folder: Path) -> Environment:
    """Return a copy of what decides about the set-up, with an environment that counts as installed."""
    (folder / "requirements").mkdir(parents=True)
    for name in ("pyproject.toml", *subject.PINS):
        shutil.copy(ROOT / name, folder / name)
    environment = Environment(folder)
    environment.binaries.mkdir(parents=True)
    environment.python.touch()
    environment.stamp.write_text(json.dumps(wanted(folder)))
    return environment


def append(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(path.read_text() + text)

    return change


def test_what_is_stamped_is_ready_without_any_work(tmp_path: Path) -> None:
    environment = folder_like_ours(tmp_path)
    assert set_up(tmp_path, frozenset()) == environment
    assert not environment.cache.exists()


@pytest.mark.parametrize(
    ("name", "text", "is_still_installed"),
    [
        ("requirements/dev.txt", "another==1\n", False),
        ("requirements/uv.txt", "another==1\n", False),
        ("pyproject.toml", '[project.entry-points.x]\ny = "z"\n', False),
        ("pyproject.toml", "[tool.another]\nlines = 1\n", True),
    ],
)
def test_a_change_of_what_is_installed_is_noticed(
    tmp_path: Path, name: str, text: str, is_still_installed: bool
) -> None:
    environment = folder_like_ours(tmp_path)
    append(text)(tmp_path / name)
    assert is_installed(environment) is is_still_installed


def test_a_moved_folder_is_set_up_anew(tmp_path: Path) -> None:
    folder_like_ours(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert not is_installed(Environment(tmp_path / "new"))


def test_an_environment_whose_python_is_gone_is_set_up_anew(tmp_path: Path) -> None:
    environment = folder_like_ours(tmp_path)
    environment.python.unlink()
    assert not is_installed(environment)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"root": "/elsewhere"}'])
def test_a_damaged_stamp_counts_as_none(tmp_path: Path, content: bytes) -> None:
    environment = folder_like_ours(tmp_path)
    environment.stamp.write_bytes(content)
    assert stamped(environment) in ({}, {"root": "/elsewhere"})
    assert not is_installed(environment)


def test_the_second_waits_for_the_first_and_finds_its_work_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = folder_like_ours(tmp_path)
    environment.stamp.unlink()
    waiting = threading.Event()
    monkeypatch.setattr(subject, "say", lambda line: waiting.set() if "waiting" in line else None)
    monkeypatch.setattr(subject, "install", lambda _: pytest.fail("the first had installed everything"))
    second = threading.Thread(target=set_up, args=(tmp_path, frozenset()))
    with sole_right(environment.cache / "setup.lock"):
        second.start()
        assert waiting.wait(DEADLINE_SECONDS)
        environment.stamp.write_text(json.dumps(wanted(tmp_path)))
    second.join(DEADLINE_SECONDS)
    assert not second.is_alive()


def test_a_lock_that_is_never_freed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "LOCK_DEADLINE_SECONDS", 0.0)
    lock = tmp_path / "lock"
    with sole_right(lock), pytest.raises(SetupFailed, match="another start"), sole_right(lock):
        pytest.fail("two hold the lock")


def test_a_lock_whose_holder_was_killed_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    program = (
        "import pathlib, sys; from scripts.environment import sole_right\n"
        "with sole_right(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(lock)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        holder.kill()
        holder.wait(DEADLINE_SECONDS)
    monkeypatch.setattr(subject, "LOCK_DEADLINE_SECONDS", 0.0)
    with sole_right(lock):
        assert lock.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupFailed, match="cannot be written"), sole_right(tmp_path / "file" / "lock"):
        pytest.fail("there is no such folder")


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("error: Failed to fetch: ...\n  cause: dns error", "no package registry can be reached"),
        ("WARNING: ... [Errno 111] Connection refused", "no package registry can be reached"),
        ("npm error code ENOTFOUND", "no package registry can be reached"),
        ("invalid peer certificate: UnknownIssuer", "certificate is not trusted"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("PermissionError: [Errno 13] Permission denied", "cannot be written"),
    ],
)
def test_a_failed_step_names_the_likeliest_reason_in_one_line(tmp_path: Path, output: str, hint: str) -> None:
    with pytest.raises(SetupFailed, match=hint) as failure:
        subject.run([sys.executable, "-c", f"import sys; sys.exit({output!r})"], tmp_path, "it failed")
    assert "\n" not in str(failure.value)
    assert failure.value.output == ""


def test_a_failed_step_without_a_known_reason_shows_what_was_said(tmp_path: Path) -> None:
    with pytest.raises(SetupFailed, match=r"^it failed$") as failure:
        subject.run([sys.executable, "-c", "import sys; sys.exit('something odd')"], tmp_path, "it failed")
    assert "something odd" in failure.value.output


def test_a_step_that_is_no_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupFailed, match="it failed: "):
        subject.run([tmp_path / "nothing"], tmp_path, "it failed")


def test_a_python_without_pip_and_venv_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = folder_like_ours(tmp_path)
    environment.stamp.unlink()
    monkeypatch.setattr(subject, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupFailed, match="neither pip nor venv: install python3-venv"):
        set_up(tmp_path, frozenset())


def test_only_the_parts_that_are_asked_for_are_missing() -> None:
    nowhere = Path("/nonexistent")
    assert subject.missing(nowhere, frozenset()) == []
    assert Part.BUNDLE not in subject.missing(ROOT, frozenset({Part.BROWSER}))
