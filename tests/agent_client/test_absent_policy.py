"""Where the machine's own policy is not found: jobs run if nobody has wanted one, and nobody can have removed it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_client.policy.file import NoPolicy, PolicyFile, Unusable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only this user can change, as pytest's are."""
    folder = tmp_path / "jtnt"
    folder.mkdir(mode=0o755)
    return folder


def test_a_policy_that_was_chosen_and_is_not_there_lets_nothing_run(folder: Path) -> None:
    chooser = folder / "config.json"
    chooser.write_text("{}")
    chooser.chmod(0o600)
    state = PolicyFile(folder / "absent.toml", chooser).current()
    assert isinstance(state, Unusable)
    assert "absent.toml" in state.message


def test_a_policy_that_others_could_have_removed_lets_nothing_run(folder: Path) -> None:
    folder.chmod(0o775)
    for absent in (folder / "policy.toml", folder / "not" / "made" / "policy.toml"):
        assert isinstance(PolicyFile(absent).current(), Unusable)
    folder.chmod(0o755)
    assert PolicyFile(folder / "not" / "made" / "policy.toml").current() == NoPolicy()


def test_a_policy_in_a_folder_that_may_not_be_entered_lets_nothing_run(folder: Path) -> None:
    path, ours = folder / "policy.toml", os.geteuid()
    path.write_text("[jobs]\nactions = []\n")
    folder.chmod(0)
    os.seteuid(ours or 65534)
    try:
        state = PolicyFile(path).current()
    finally:
        os.seteuid(ours)
        folder.chmod(0o755)
    assert isinstance(state, Unusable)
    assert "Permission denied" in state.message
