"""The units for systemd that the README gives fit the code and what is promised of jobs."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from agent_client.execution.door import socket_of
from agent_client.execution.executor import OWN_FOLDER
from agent_client.paths import Places

README = Path(__file__).parents[2] / "agent_client" / "README.md"
UNIT = re.compile(
    r"^# /etc/systemd/system/(?P<name>\S+)\n(?P<text>.*?)(?=^# /etc/systemd|^```)", re.DOTALL | re.MULTILINE
)


def units() -> list[tuple[str, ConfigParser]]:
    found = []
    for match in UNIT.finditer(README.read_text()):
        unit = ConfigParser()
        unit.read_string(match["text"])
        found.append((match["name"], unit))
    return found


def test_whoever_starts_jobs_leaves_them_alone_when_it_is_restarted() -> None:
    starts_jobs = [unit["Service"] for _, unit in units() if "Service" in unit and "User" not in unit["Service"]]
    assert [service["ExecStart"] for service in starts_jobs] == ["/usr/bin/jtnt-agentd", "/usr/bin/jtnt-agent executor"]
    assert {service.get("KillMode") for service in starts_jobs} == {"process"}


def test_the_executors_socket_and_folder_are_where_the_code_looks_and_for_the_daemons_user_alone() -> None:
    named = dict(units())
    listener, daemon = named["jtnt-executor.socket"]["Socket"], named["jtnt-agentd.service"]["Service"]
    assert Path(listener["ListenStream"]) == socket_of(Places.of_system("linux"))
    assert (listener["SocketUser"], listener["SocketMode"]) == (daemon["User"], "0600")
    assert Path("/var/lib", named["jtnt-executor.service"]["Service"]["StateDirectory"]) == OWN_FOLDER
