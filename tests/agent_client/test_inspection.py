from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.cli import main
from agent_client.config import load_config, save_config
from agent_client.paths import Places
from tests.agent_client.door import Door, listening
from tests.agent_client.fleet import Fleet


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is taken, and answers nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def check(places: Places) -> int:
    return main(["test-connection", "--data-dir", str(places.state)])


def test_every_step_is_tried_and_shown(
    fleet: Fleet, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(Door(fleet), tmp_path / "server", only_clients_of=None) as door:
        fleet.enroll_by_hand(places, door.port)
        assert check(places) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["ok"] * 6
    assert "TLSv1.3" in shown[3]
    assert "days left" in shown[4]


def test_a_certificate_that_the_hub_refuses_is_said(
    fleet: Fleet, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(Door(fleet), tmp_path / "server", only_clients_of=Fleet()) as door:
        fleet.enroll_by_hand(places, door.port)
        assert check(places) == 5
    assert "refused our certificate" in capsys.readouterr().out


def test_a_hub_of_another_fleet_is_said(
    fleet: Fleet, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(Door(Fleet()), tmp_path / "server") as door:
        fleet.enroll_by_hand(places, door.port)
        assert check(places) == 4
    assert "not of this fleet:" in capsys.readouterr().out


def test_an_expired_certificate_is_said(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    with listening(Door(fleet), tmp_path / "server") as door:
        fleet.enroll_by_hand(places, door.port, days=-1)
        assert check(places) == 5


def test_a_port_where_nobody_answers_is_said(fleet: Fleet, places: Places, nobody: int) -> None:
    fleet.enroll_by_hand(places, nobody)
    assert check(places) == 3


def test_a_name_that_nobody_knows_is_said(fleet: Fleet, places: Places) -> None:
    config = fleet.enroll_by_hand(places, 3001, websocket_url="wss://no-such-host.invalid:3001/ws/agents")
    save_config(places, config)
    assert load_config(places) == config
    assert check(places) == 2


def test_a_machine_that_is_not_enrolled_is_said_to_be_none(places: Places) -> None:
    assert check(places) == 78
