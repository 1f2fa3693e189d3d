"""Enrollment and a running daemon change the same files: one at a time, and never those of another identity."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_client.agent import Agent
from agent_client.cli import main
from agent_client.config import load_config
from agent_client.enrollment import enroll as enrollment
from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from agent_client.store.secure import SecureStore, StoreError
from agent_client.transport.tls import context_of
from agent_client.trust.document import load_trust, server_anchors
from agent_client.turns import AnotherIdentity, FilesBusy, Turn
from protocol.desired import AgentConfig, AgentPolicy, CertificateTerms
from protocol.enrollment import EnrollReply
from protocol.enumerations import DesiredName
from protocol.frames import Desired, DesiredRejected
from tests.agent_client.door import Door, listening
from tests.agent_client.fleet import AGENT, Fleet, described_chain

OTHER = "agent-2"
ROOT = Path(__file__).parents[2]
HOLDING = """
import sys
from pathlib import Path
from agent_client.paths import Places
from agent_client.turns import Turn
with Turn(Places.inside(Path(sys.argv[1]))).taken():
    print("held", flush=True)
    sys.stdin.read()
"""


def new_pair(fleet: Fleet, agent_id: str = AGENT) -> tuple[str, bytes]:
    key = Ed25519PrivateKey.generate()
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return key_pem, described_chain(fleet.client_certificate(key.public_key(), agent_id=agent_id))


def put_next(pairs: Pairs, fleet: Fleet) -> None:
    key_pem, certificate = new_pair(fleet)
    pairs.begin(key_pem)
    pairs.complete(certificate)


def contents(places: Places) -> dict[str, bytes]:
    found = {path for path in places.state.rglob("*") if path.is_file() and not path.name.startswith("spool.db")}
    return {str(path.relative_to(places.state)): path.read_bytes() for path in found}


def test_a_turn_that_another_process_has_stops_the_daemons_writes_and_comes_back_when_it_dies(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    fleet.enroll_by_hand(places, 1)
    with (
        subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(places.state)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other,
        listening(Door(fleet), tmp_path / "server") as door,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        before = contents(places)
        with pytest.raises(FilesBusy, match="try again"):
            put_next(Pairs(places, Turn(places, AGENT)), fleet)
        assert contents(places) == before
        killing = threading.Timer(0.3, other.kill)

        def kill_soon(reply: EnrollReply) -> EnrollReply:
            killing.start()
            return reply

        door.change = kill_soon
        arguments = ["enroll", "--data-dir", str(places.state), "--token", fleet.token().text, "--hub", door.url]
        assert main([*arguments, "--force"]) == 0
        assert not killing.is_alive(), "the enrollment has waited"
        assert other.wait() == -signal.SIGKILL
    put_next(Pairs(places, Turn(places, AGENT)), fleet)
    assert len(Pairs(places).candidates(AGENT)) == 2
    assert places.files_lock.stat().st_mode & 0o777 == 0o600


async def test_an_agent_whose_machine_was_enrolled_anew_writes_none_of_its_files_any_more(
    fleet: Fleet, places: Places
) -> None:
    fleet.enroll_by_hand(places, 1)
    put_next(Pairs(places), fleet)
    agent = Agent(places, load_config(places))
    try:
        fleet.enroll_by_hand(places, 1, agent_id=OTHER)
        before = contents(places)
        key_pem, certificate = new_pair(fleet)
        pairs = agent._papers.pairs
        writes: list[Callable[[], Any]] = [
            lambda: pairs.begin(key_pem),
            lambda: pairs.complete(certificate),
            pairs.promote,
            pairs.finish_promotion,
            pairs.clear_next,
        ]
        for write in writes:
            with pytest.raises(AnotherIdentity, match=OTHER):
                write()
        for name, body in (
            (DesiredName.CONFIG, AgentConfig()),
            (DesiredName.POLICY, AgentPolicy(allowed_actions=())),
            (DesiredName.TRUST, fleet.trust(version=9)),
            (DesiredName.CERTIFICATE, CertificateTerms(issuer_sha256="a" * 64)),
        ):
            offered = Desired(name=name, hash="h", body=msgspec.to_builtins(body, str_keys=True))
            answer = await agent._desired.apply(offered)
            assert isinstance(answer, DesiredRejected)
            assert "enrolled anew" in answer.reason
        assert contents(places) == before
    finally:
        agent._database.close()


def test_while_an_enrollment_is_unfinished_nothing_is_written_and_while_a_person_edits_it_is(
    fleet: Fleet, places: Places
) -> None:
    fleet.enroll_by_hand(places, 1)
    pairs, config = Pairs(places, Turn(places, AGENT)), places.config / "config.json"
    config.write_text('{"agent_id": "ag')
    put_next(pairs, fleet)
    config.unlink()
    with pytest.raises(AnotherIdentity, match="not enrolled"):
        pairs.promote()


def test_an_enrollment_that_gets_no_turn_says_so_and_the_same_command_completes_it(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(enrollment, "TURN_WAIT_SECONDS", 0.1)
    with listening(Door(fleet), tmp_path / "server") as door:
        arguments = ["enroll", "--data-dir", str(places.state), "--token", fleet.token().text, "--hub", door.url]
        with Turn(places).taken():
            assert main(arguments) == 75
        assert "another process is changing the files" in capsys.readouterr().err
        assert main(arguments) == 0
        assert door.requests[0].csr_pem == door.requests[1].csr_pem


@pytest.mark.parametrize("step", range(14))
def test_a_daemon_that_promotes_at_any_step_of_an_enrollment_leaves_one_whole_identity(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    fleet.enroll_by_hand(places, 1)
    daemons = Pairs(places, Turn(places, AGENT))
    put_next(daemons, fleet)
    steps = 0

    def promote_at(operation: Callable[..., None]) -> Callable[..., None]:
        def watched(*arguments: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == step + 1:
                with suppress(StoreError):
                    daemons.promote()
                with suppress(StoreError):
                    put_next(daemons, fleet)
            operation(*arguments)

        return watched

    def answer(request: Any) -> tuple[int, Any]:
        return 200, msgspec.structs.replace(door.enrolled(request, agent_id=OTHER), agent_id=OTHER)

    with listening(Door(fleet, answer=answer), tmp_path / "server") as door, monkeypatch.context() as watching:
        watching.setattr(SecureStore, "save", promote_at(SecureStore.save))
        watching.setattr(SecureStore, "delete", promote_at(SecureStore.delete))
        arguments = ["enroll", "--data-dir", str(places.state), "--token", fleet.token().text, "--hub", door.url]
        assert main([*arguments, "--force"]) == 0
    assert steps >= 13
    with suppress(StoreError):
        daemons.promote()
    assert load_config(places).agent_id == OTHER
    (pair,) = Pairs(places).candidates(OTHER)
    assert pair.facts.identity.agent_id == OTHER
    context_of(server_anchors(load_trust(places)[1]), pair)
    assert not list((places.certs / "next").glob("*"))
