"""Root's executor in a folder that is another user's: that user exchanges files under its hands."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_client.execution import door
from agent_client.execution.door import Door, socket_of
from agent_client.execution.places import ExecutorPlaces
from agent_client.paths import Places
from agent_client.store.secure import StoreError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its files away")
DAEMON = 12345


def by_a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def by_a_second_name(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


@pytest.mark.parametrize("exchanged", [by_a_link, by_a_second_name])
def test_no_file_but_the_socket_itself_is_given_away_or_changed(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: Callable[[Path, Path], None]
) -> None:
    places.state.mkdir(parents=True)
    os.chown(places.state, DAEMON, DAEMON)
    path, victim = socket_of(places), tmp_path / "victim"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(victim))
    victim.chmod(0o644)
    bind = door._bind_for_us_alone

    def bind_and_lose(listener: socket.socket, address: str) -> None:
        bind(listener, address)
        path.unlink()
        exchanged(path, victim)

    monkeypatch.setattr(door, "_bind_for_us_alone", bind_and_lose)
    with pytest.raises(StoreError):
        Door(ExecutorPlaces(tmp_path / "executor", places))
    assert (victim.stat().st_uid, victim.stat().st_mode & 0o777) == (0, 0o644)


def test_the_socket_is_the_daemons_users_from_its_first_moment(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.state.mkdir(parents=True)
    os.chown(places.state, DAEMON, DAEMON)
    modes: list[int] = []
    give = door._give

    def note(path: Path, owner: int) -> None:
        modes.append(path.stat().st_mode & 0o777)
        give(path, owner)

    monkeypatch.setattr(door, "_give", note)
    opened = Door(ExecutorPlaces(tmp_path / "executor", places))
    status = socket_of(places).stat()
    opened.close()
    assert (modes, status.st_uid, status.st_mode & 0o777) == ([0o600], DAEMON, 0o600)
