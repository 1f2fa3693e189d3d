"""What `jtnt-agent` says to a newcomer: the next step, what to do about a failure, exit codes as in its help."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from http.client import BadStatusLine
from pathlib import Path

import pytest

from agent_client.cli import main
from agent_client.enrollment.unreached import words_for
from agent_client.paths import Places
from agent_client.version import AGENT_VERSION
from protocol.codes import ErrorCode
from protocol.identity import EnrollmentToken
from tests.agent_client.alive import alive
from tests.agent_client.door import Door, error, listening
from tests.agent_client.fleet import Fleet
from tests.agent_client.hub import Hub, running

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def token(fleet: Fleet) -> EnrollmentToken:
    return fleet.token()


@pytest.fixture
def door(fleet: Fleet, tmp_path: Path) -> Iterator[Door]:
    with listening(Door(fleet), tmp_path / "server") as door:
        yield door


@pytest.fixture
def plain_port() -> Iterator[int]:
    """A port that answers as a dashboard without TLS does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def answer() -> None:
            channel, _ = server.accept()
            with channel:
                channel.recv(4096)
                channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names a proxy that does not answer."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.upper(), NOWHERE)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def enroll(url: str, token: EnrollmentToken, *more: str) -> int:
    return main(["enroll", "--token", token.text, "--hub", url, *more])


def ended(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_an_enrolled_machine_is_told_how_to_start_in_the_same_folder(
    tmp_path: Path, door: Door, token: EnrollmentToken, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my agent"
    assert enroll(door.url, token, "--data-dir", str(folder)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"start it with: jtnt-agentd --data-dir '{folder}'"


def test_without_a_folder_given_the_systems_own_is_named(
    places: Places,
    door: Door,
    token: EnrollmentToken,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Places, "of_system", lambda: places)
    assert enroll(door.url, token) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"its files are in {places.state}",
        "start it with: jtnt-agentd",
    ]


def test_advice_repeats_the_folder_that_was_given(
    fleet: Fleet, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    given = f" --data-dir {places.state}"
    assert main(["status", "--data-dir", str(places.state)]) == 3
    assert f"`jtnt-agent enroll JOIN-STRING{given}`" in capsys.readouterr().out
    fleet.enroll_by_hand(places, 9)
    assert main(["status", "--data-dir", str(places.state)]) == 3
    assert f"start it: jtnt-agentd{given}" in capsys.readouterr().out


def test_the_dashboards_port_is_guessed_where_no_tls_answers(
    places: Places, token: EnrollmentToken, plain_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enroll(f"https://127.0.0.1:{plain_port}", token, "--data-dir", str(places.state)) == 4
    said = capsys.readouterr().err
    assert f"127.0.0.1:{plain_port}: it answers, but not with TLS; is that the dashboard's port?" in said
    assert "3001" in said
    assert "SSL" not in said


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "is the hub running"),
        (socket.gaierror(socket.EAI_NONAME, "not known"), "check its spelling"),
        (TimeoutError("timed out"), "firewall"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "agents' port"),
        (OSError(errno.ENETUNREACH, "unreachable"), "check its network"),
        (ssl.SSLEOFError(8, "EOF occurred"), "right port"),
        (BadStatusLine("gibberish"), "gibberish"),
    ],
)
def test_a_failed_call_is_told_with_what_to_do(failure: OSError, words: str) -> None:
    said = words_for(failure, "hub.example", 3001)
    assert words in said
    assert "Errno" not in said


def test_test_connection_says_what_to_do_about_a_closed_port(
    fleet: Fleet, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.enroll_by_hand(places, 9)
    assert main(["test-connection", "--data-dir", str(places.state)]) == 3
    assert "nothing listens on port 9; is the hub running, is the port right" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["localhost:4311", "https://hub:port", "https://[::1", "http://hub:1", "https://h/x"])
def test_a_wrong_address_is_wrong_usage(places: Places, token: EnrollmentToken, url: str) -> None:
    assert enroll(url, token, "--data-dir", str(places.state)) == 64


@pytest.mark.parametrize(
    "arguments",
    [
        ("enroll", "--approval-timeout", "abc"),
        ("enroll", "--approval-timeout", "-3"),
        ("enroll", "--approval-timeout", "nan"),
        ("jobs", "--count", "-3"),
        ("jobs", "--count", "9" * 30),
        ("status", "--jsno"),
        ("frobnicate",),
        (),
    ],
)
def test_wrong_usage_ends_with_64(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*arguments) == 64
    assert "usage: jtnt-agent" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["enroll", "jobs", "status", "test-connection"])
def test_every_command_with_exit_codes_lists_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(command, "--help") == 0
    assert "exit codes: 0 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "path", "words"),
    [
        (ErrorCode.TOKEN_REFUSED, "$.token", "the hub refused: not so"),
        (ErrorCode.INVALID_REQUEST, "$.sysinfo.os", "the hub refused: not so (field `sysinfo.os`)"),
    ],
)
def test_the_path_of_a_field_is_shown_only_where_the_field_is_at_fault(
    places: Places,
    door: Door,
    token: EnrollmentToken,
    capsys: pytest.CaptureFixture[str],
    code: ErrorCode,
    path: str,
    words: str,
) -> None:
    door.answer = lambda _: (400, error(code, "not so", path=path))
    assert enroll(door.url, token, "--data-dir", str(places.state)) == 6
    assert capsys.readouterr().err == f"jtnt-agent: {words}\n"


def test_the_version_is_said_in_every_usual_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--version") == 0
    assert capsys.readouterr().out == f"jtnt-agent {AGENT_VERSION}\n"
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": AGENT_VERSION}


def test_the_steps_of_test_connection_can_be_read_by_programs(
    fleet: Fleet, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.enroll_by_hand(places, 9)
    assert main(["test-connection", "--json", "--data-dir", str(places.state)]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["exit_code"]) == (False, 3)
    assert [(step["name"], step["exit_code"]) for step in shown["steps"]] == [
        ("configuration", 0),
        ("name", 0),
        ("port", 3),
    ]


@pytest.mark.usefixtures("proxied")
def test_enrollment_goes_past_a_proxy_of_the_environment(places: Places, door: Door, token: EnrollmentToken) -> None:
    assert os.environ["https_proxy"] == NOWHERE
    assert enroll(door.url, token, "--data-dir", str(places.state)) == 0


@pytest.mark.usefixtures("proxied", "hurried")
async def test_a_session_goes_past_a_proxy_of_the_environment(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            await hub.peer()
