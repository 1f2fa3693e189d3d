"""A hub as its own process, and the command line beside it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from hub_server.cli.outcome import Exit
from tests.hub_server.cli.conftest import JtntHub

DEADLINE_SECONDS = 60
COMMAND = (sys.executable, "-c", "from hub_server.cli.main import main; main()")


class RunningHub(NamedTuple):
    process: subprocess.Popen[str]
    people_port: int
    agents_port: int


@contextmanager
def serving(data_dir: Path) -> Iterator[RunningHub]:
    """Serve on any free ports until the block ends."""
    environment = {**os.environ, "JTNT_PEOPLE__PORT": "0", "JTNT_AGENTS__PORT": "0"}
    process = subprocess.Popen(
        [*COMMAND, "serve", "--data-dir", str(data_dir)], env=environment, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield RunningHub(process, *_ports_of(process))
        finally:
            process.kill()


def _ports_of(process: subprocess.Popen[str]) -> tuple[int, int]:
    assert process.stdout is not None
    for line in process.stdout:
        record: dict[str, Any] = json.loads(line)
        if record["message"] == "hub listening":
            return record["people_port"], record["agents_port"]
    raise AssertionError("the hub ended before it listened")


def started(data_dir: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "serve", "--data-dir", str(data_dir)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code and the one line on standard error."""
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert said.count("\n") == 1
    return process.returncode, said


def status_of_sign_in(port: int, password: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    with closing(connection):
        body = json.dumps({"username": "ada", "password": password})
        connection.request("POST", "/api/v1/auth/sign-in", body, {"Content-Type": "application/json"})
        return connection.getresponse().status


def test_a_hub_serves_beside_its_command_line_and_alone_in_its_folder(
    jtnt_hub: JtntHub, data_dir: Path, tmp_path: Path
) -> None:
    with serving(data_dir) as hub:
        second = started(data_dir)
        elsewhere = started(tmp_path / "other", JTNT_PEOPLE__PORT=str(hub.people_port), JTNT_AGENTS__PORT="0")
        user = json.loads(jtnt_hub("users", "create", "ada", "--role", "org-admin", "--json").out)
        assert status_of_sign_in(hub.people_port, user["password"]) == 200
        assert status_of_sign_in(hub.people_port, "wrong") == 401
        assert "jtnt-agent enroll 'jtnt://" in jtnt_hub("token", "create").out
        code, said = end_of(second)
        assert (code, f"process {hub.process.pid}" in said) == (Exit.ALREADY_RUNNING, True)
        code, said = end_of(elsewhere)
        assert (code, f"port {hub.people_port} is in use" in said) == (Exit.PORT_IN_USE, True)
        hub.process.send_signal(signal.SIGTERM)
        assert hub.process.wait(DEADLINE_SECONDS) == Exit.DONE
