"""The hub's audit checkpoints, kept where the hub cannot reach them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from agent_client.cli import main
from agent_client.paths import Places
from agent_client.witness import Witness
from protocol.frames import Checkpoint, Heartbeat
from tests.agent_client.alive import alive
from tests.agent_client.clock import START_MS
from tests.agent_client.fleet import Fleet
from tests.agent_client.hub import Hub, running


def checkpoint(number: int, hash_: str = "aa") -> Checkpoint:
    return Checkpoint(
        hub_id="hub-1", number=number, hash=hash_, at_ms=START_MS + number, key_id="k", signature=f"s{number}"
    )


@pytest.mark.usefixtures("hurried")
async def test_the_checkpoint_of_each_welcome_is_kept_once(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        for session, number in enumerate((3, 3, 8), start=1):
            hub.welcome = {"checkpoint": checkpoint(number)}
            async with alive(places):
                await (await hub.peer(session)).first(Heartbeat)
    assert Witness(places).checkpoints() == [checkpoint(3), checkpoint(8)]
    assert (places.state / "witness.json").stat().st_mode & 0o777 == 0o600


def test_the_ten_newest_are_kept_and_one_that_contradicts_another_beside_it(places: Places) -> None:
    witness = Witness(places)
    for number in range(20):
        witness.keep(checkpoint(number))
    witness.keep(checkpoint(19, "bb"))
    kept = Witness(places).checkpoints()
    assert [point.number for point in kept] == [*range(11, 20), 19]
    assert {point.hash for point in kept[-2:]} == {"aa", "bb"}


def test_a_damaged_file_stops_nothing(places: Places) -> None:
    witness = Witness(places)
    witness.keep(checkpoint(1))
    (places.state / "witness.json").write_bytes(b"{")
    witness.keep(checkpoint(2))
    assert witness.checkpoints() == [checkpoint(2)]


def test_what_is_kept_is_printed_for_programs_and_for_people(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["witness", "--data-dir", str(places.state)]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    Witness(places).keep(checkpoint(41))
    assert main([*arguments, "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=list[Checkpoint]) == [checkpoint(41)]
    assert main(arguments) == 0
    assert "row 41" in capsys.readouterr().out
