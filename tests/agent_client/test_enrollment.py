from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent_client.cli import main
from agent_client.config import load_config, save_config
from agent_client.enrollment.errors import BadAnswer
from agent_client.enrollment.hub import ANSWER_MAX_BYTES, HubAddress, HubDoor
from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from agent_client.store.secure import SecureStore, Unwritable
from agent_client.transport.tls import context_of
from agent_client.trust.document import load_trust, server_anchors
from protocol.codes import ErrorCode
from protocol.enrollment import EnrollPending, EnrollReply, EnrollRequest
from protocol.identity import AgentIdentity, EnrollmentToken, JoinString
from tests.agent_client.door import Door, error, listening
from tests.agent_client.fleet import AGENT, DOMAIN, ORGANISATION, Authority, Fleet, authority, fingerprint_of
from tests.stand_ins import stand_in

FILES = {
    "config.json",
    "trust.json",
    "policy.json",
    "files.lock",
    "certs/client.crt",
    "certs/client.key",
    "certs/ca-bundle.crt",
}


@pytest.fixture
def token(fleet: Fleet) -> EnrollmentToken:
    return fleet.token()


@pytest.fixture
def door(fleet: Fleet, tmp_path: Path) -> Iterator[Door]:
    with listening(Door(fleet), tmp_path / "server") as door:
        yield door


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "agent"


def enroll(folder: Path, door: Door, token: EnrollmentToken, *more: str) -> int:
    return main(["enroll", "--data-dir", str(folder), "--token", token.text, "--hub", door.url, *more])


def usable(places: Places) -> None:
    """Raise unless the stored key and certificate fit each other."""
    context_of(server_anchors(load_trust(places)[1]), Pairs(places).candidates(AGENT)[0])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_machine_enrolls_with_a_join_string_and_keeps_its_key_to_itself(
    folder: Path, door: Door, token: EnrollmentToken, capsys: pytest.CaptureFixture[str]
) -> None:
    join = JoinString(door.host, door.port, token).text
    assert main(["enroll", join, "--data-dir", str(folder)]) == 0
    assert f"enrolled as agent {AGENT}" in capsys.readouterr().out
    assert files(folder) == FILES
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()} == {0o700}
    places = Places.inside(folder)
    config = load_config(places)
    assert (config.agent_id, config.organisation_id, config.trust_domain) == (AGENT, ORGANISATION, DOMAIN)
    assert config.websocket_url == f"wss://127.0.0.1:{door.port}/ws/agents"
    usable(places)
    key = (folder / "certs" / "client.key").read_bytes()
    assert b"PRIVATE KEY" in key
    secret = key.split(b"-----")[2].strip()
    assert secret not in door.everything
    request = door.requests[0]
    assert request.token == token.text
    assert request.sysinfo.hostname
    assert "127.0.0.1" not in request.sysinfo.ip_addresses


def test_a_hub_with_another_root_never_sees_the_token(
    folder: Path, door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Fleet().token()
    assert enroll(folder, door, other) == 5
    assert "token was not sent" in capsys.readouterr().err
    assert b"GET /api/v1/agent/ca" in door.everything
    assert b"POST" not in door.everything
    assert other.text.encode() not in door.everything
    assert files(folder) <= {"certs/enrollment.key"}


def test_a_hub_that_shows_the_right_root_and_cannot_prove_it_never_sees_the_token(
    folder: Path, fleet: Fleet, token: EnrollmentToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine in the middle passes the real hub's public chain on."""
    with listening(Door(fleet), tmp_path / "server", certified_by=Fleet()) as door:
        assert enroll(folder, door, token) == 5
        assert "cannot prove who it is" in capsys.readouterr().err
        assert token.text.encode() not in door.everything
        assert door.requests == []


def test_a_root_smuggled_in_beside_the_right_one_is_not_trusted(
    folder: Path, fleet: Fleet, token: EnrollmentToken, tmp_path: Path
) -> None:
    evil = Fleet()
    door = Door(fleet, claims_bundle=fleet.root.pem + evil.root.pem + evil.servers_ca.pem)
    with listening(door, tmp_path / "server", certified_by=evil):
        assert enroll(folder, door, token) == 5
        assert door.requests == []


def test_a_certificate_of_the_fleet_for_another_name_never_sees_the_token(
    folder: Path, fleet: Fleet, token: EnrollmentToken, tmp_path: Path
) -> None:
    with listening(Door(fleet), tmp_path / "server", name="other.example") as door:
        assert enroll(folder, door, token) == 5
        assert door.requests == []


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, ErrorCode.TOKEN_REFUSED, "this token was used already"),
        (403, ErrorCode.QUOTA, "the organisation has no room for more agents"),
        (409, ErrorCode.KEY_IN_USE, "this key is another agent's"),
        (429, ErrorCode.RATE_LIMITED, "too many attempts"),
    ],
)
def test_the_hubs_refusal_is_shown_in_its_own_words(
    folder: Path,
    door: Door,
    token: EnrollmentToken,
    capsys: pytest.CaptureFixture[str],
    status: int,
    code: ErrorCode,
    message: str,
) -> None:
    door.answer = lambda _: (status, error(code, message, retry_after_sec=7))
    assert enroll(folder, door, token) == 6
    assert f"{message}; try again in 7 s" in capsys.readouterr().err
    assert files(folder) == {"certs/enrollment.key"}


def wrong_certificate(fleet: Fleet, **changes: Any) -> Callable[[Door], None]:
    def prepare(door: Door) -> None:
        door.answer = lambda request: (200, door.enrolled(request, **changes))

    return prepare


def other_key(door: Door) -> None:
    certificate = door.fleet.client_certificate(Ed25519PrivateKey.generate().public_key())
    door.change = lambda reply: msgspec.structs.replace(reply, client_cert_pem=certificate)


def changed(**fields: Any) -> Callable[[Door], None]:
    def prepare(door: Door) -> None:
        door.change = lambda reply: msgspec.structs.replace(reply, **fields)

    return prepare


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


FLEET = Fleet()
OTHER = Fleet()
SERVERS_LEAF_AS_CA = Authority(OTHER.root.key, FLEET.agents_ca.certificate)
GOOD_URI = AgentIdentity(DOMAIN, ORGANISATION, AGENT).uri


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (other_key, "not for this agent's key"),
        (wrong_certificate(FLEET, issuer=OTHER.agents_ca), "does not chain"),
        (wrong_certificate(FLEET, issuer=authority("unsigned")), "does not chain"),
        (wrong_certificate(FLEET, issuer=SERVERS_LEAF_AS_CA), "does not chain"),
        (wrong_certificate(FLEET, issuer=FLEET.root), "without the CA"),
        (wrong_certificate(FLEET, days=-1), "not valid now"),
        (wrong_certificate(FLEET, usage=ExtendedKeyUsageOID.SERVER_AUTH), "not for clients"),
        (wrong_certificate(FLEET, names=[uri(GOOD_URI), uri(f"{GOOD_URI}2")]), "exactly one agent"),
        (wrong_certificate(FLEET, names=[uri(GOOD_URI), x509.DNSName("hub")]), "exactly one agent"),
        (wrong_certificate(FLEET, names=[uri("spiffe://x/agent/1")]), "names no agent"),
        (wrong_certificate(FLEET, agent_id="agent-2"), "another agent"),
        (changed(ca_bundle_pem=OTHER.bundle_pem), "not the one that made the token"),
        (changed(ca_bundle_pem=FLEET.root.pem + OTHER.root.pem), "does not chain"),
        (changed(ca_bundle_pem="nonsense"), "cannot be read"),
        (changed(client_cert_pem=""), "cannot be read"),
        (changed(websocket_url="ws://127.0.0.1/ws/agents"), "not a secure one"),
        (changed(trust=OTHER.trust()), "not signed by this fleet's root"),
        (changed(trust=FLEET.trust(trust_domain="elsewhere")), "is for 'elsewhere'"),
        (changed(agent_id="x" * 200), "another agent"),
    ],
)
def test_an_answer_that_does_not_hold_is_not_saved(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Door], None],
    message: str,
) -> None:
    with listening(Door(FLEET), tmp_path / "server") as door:
        prepare(door)
        assert enroll(folder, door, FLEET.token()) in {5, 7}
    assert message in capsys.readouterr().err
    assert files(folder) == {"certs/enrollment.key"}


def test_a_trust_document_altered_under_its_signature_is_not_saved(
    folder: Path, door: Door, fleet: Fleet, token: EnrollmentToken, capsys: pytest.CaptureFixture[str]
) -> None:
    signatures = fleet.trust().signatures
    altered = msgspec.structs.replace(fleet.trust(version=2), signatures=signatures)
    door.change = lambda reply: msgspec.structs.replace(reply, trust=altered)
    assert enroll(folder, door, token) == 7
    assert "not signed" in capsys.readouterr().err
    assert not (folder / "trust.json").exists()


def test_after_a_lost_answer_the_same_key_asks_again(folder: Path, door: Door, token: EnrollmentToken) -> None:
    door.answer = lambda _: (200, b"{cut o")
    assert enroll(folder, door, token) == 7
    door.answer = None
    assert enroll(folder, door, token) == 0
    first, second = door.requests
    assert first.csr_pem == second.csr_pem
    assert files(folder) == FILES


@pytest.mark.parametrize(
    "file", ["client.key", "client.crt", "ca-bundle.crt", "trust.json", "policy.json", "config.json"]
)
def test_an_enrollment_cut_off_while_saving_is_seen_and_can_be_repeated(
    folder: Path, door: Door, token: EnrollmentToken, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    real = SecureStore.save

    def save(self: SecureStore, key: str, data: bytes) -> None:
        if key == file:
            raise Unwritable("cut off here")
        real(self, key, data)

    monkeypatch.setattr(SecureStore, "save", save)
    assert enroll(folder, door, token) == 73
    assert not (folder / "config.json").exists()
    monkeypatch.undo()
    assert main(["status", "--data-dir", str(folder)]) == 3
    assert (enroll(folder, door, token), files(folder)) == (0, FILES)
    usable(Places.inside(folder))


def test_a_forced_enrollment_cut_off_while_saving_leaves_no_mixed_identity(
    folder: Path, door: Door, fleet: Fleet, token: EnrollmentToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert enroll(folder, door, token) == 0

    def save(self: SecureStore, key: str, data: bytes) -> None:
        if key == "client.crt":
            raise Unwritable("cut off here")
        real(self, key, data)

    real = SecureStore.save
    monkeypatch.setattr(SecureStore, "save", save)
    again = fleet.token()
    assert enroll(folder, door, again, "--force") == 73
    monkeypatch.undo()
    assert not (folder / "config.json").exists()
    assert enroll(folder, door, again) == 0
    usable(Places.inside(folder))


def test_a_hub_with_an_older_tls_is_not_spoken_to(
    folder: Path, fleet: Fleet, token: EnrollmentToken, tmp_path: Path
) -> None:
    with listening(Door(fleet), tmp_path / "server", newest_tls=ssl.TLSVersion.TLSv1_2) as door:
        assert enroll(folder, door, token) == 4
        assert door.received == []


def test_a_forced_enrollment_forgets_a_renewal_of_the_former_identity(
    folder: Path, door: Door, fleet: Fleet, token: EnrollmentToken
) -> None:
    assert enroll(folder, door, token) == 0
    places = Places.inside(folder)
    pairs = Pairs(places)
    pairs.begin((folder / "certs" / "client.key").read_text())
    pairs.complete((folder / "certs" / "client.crt").read_bytes())
    assert len(pairs.candidates(AGENT)) == 2
    assert enroll(folder, door, fleet.token(), "--force") == 0
    assert len(pairs.candidates(AGENT)) == 1
    usable(places)


def test_an_enrolled_machine_is_not_enrolled_again_unless_forced(
    folder: Path, door: Door, fleet: Fleet, token: EnrollmentToken
) -> None:
    assert enroll(folder, door, token) == 0
    places = Places.inside(folder)
    save_config(places, msgspec.structs.replace(load_config(places), log_level="debug"))
    before = (folder / "certs" / "client.key").read_bytes()
    door.received.clear()
    assert enroll(folder, door, fleet.token()) == 3
    assert door.received == []
    assert (folder / "certs" / "client.key").read_bytes() == before
    assert enroll(folder, door, fleet.token(), "--force") == 0
    assert (folder / "certs" / "client.key").read_bytes() != before
    assert load_config(places).log_level == "debug"
    usable(places)


def test_a_forced_enrollment_that_is_refused_leaves_the_old_identity_whole(
    folder: Path, door: Door, fleet: Fleet, token: EnrollmentToken
) -> None:
    assert enroll(folder, door, token) == 0
    before = {name: (folder / name).read_bytes() for name in FILES}
    door.answer = lambda _: (401, error(ErrorCode.TOKEN_REFUSED, "used"))
    assert enroll(folder, door, fleet.token(), "--force") == 6
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_a_hub_that_wants_a_persons_approval_is_asked_until_it_has_it(
    folder: Path,
    door: Door,
    token: EnrollmentToken,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("agent_client.enrollment.enroll.time", stand_in(time, sleep=waits.append))

    def answer(request: EnrollRequest) -> tuple[int, EnrollPending | EnrollReply]:
        if len(door.requests) < 3:
            return 202, EnrollPending(agent_id=AGENT, poll_after_sec=4)
        return 200, door.enrolled(request)

    door.answer = answer
    assert (enroll(folder, door, token), waits) == (0, [4, 4])
    assert len({request.csr_pem for request in door.requests}) == 1
    key = x509.load_pem_x509_csr(door.requests[0].csr_pem.encode()).public_key()
    assert f"its key is {fingerprint_of(key)}" in capsys.readouterr().out


def test_approval_is_not_waited_for_for_ever(folder: Path, door: Door, token: EnrollmentToken) -> None:
    door.answer = lambda _: (202, EnrollPending(agent_id=AGENT, poll_after_sec=5))
    assert enroll(folder, door, token, "--approval-timeout", "1") == 1


def test_an_endless_answer_is_not_read_to_its_end(door: Door) -> None:
    door.claims_bundle = "x" * (ANSWER_MAX_BYTES + 1)
    with pytest.raises(BadAnswer, match="too large"):
        HubDoor(HubAddress(door.host, door.port)).fetch_ca()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["enroll"], "either a JOIN-STRING"),
        (["enroll", "--token", "x"], "either a JOIN-STRING"),
        (["enroll", "http://hub"], "not a join string"),
        (["enroll", "--token", "jtnte_x", "--hub", "https://hub:1"], "not an enrollment token"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert message in capsys.readouterr().err


def test_a_cut_token_is_recognised_before_anything_is_sent(
    folder: Path, door: Door, token: EnrollmentToken, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = token.text[:20] + token.text[21:]
    assert main(["enroll", "--token", cut, "--hub", door.url, "--data-dir", str(folder)]) == 64
    assert "copy the whole line again" in capsys.readouterr().err
    assert door.received == []


def test_an_address_where_nobody_answers_is_said(
    folder: Path, token: EnrollmentToken, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["enroll", "--data-dir", str(folder), "--token", token.text, "--hub", "https://127.0.0.1:9"]
    assert main(arguments) == 4
    assert "cannot reach the hub" in capsys.readouterr().err
