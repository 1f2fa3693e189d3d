"""A folder of the first version under this one: it works at its first start, without a person."""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from agent_client.cli import main
from agent_client.config import load_config
from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from protocol.enrollment import EnrollPending
from protocol.enumerations import CommandOutcome
from protocol.frames import CommandResult, Heartbeat, Hello
from tests.agent_client.alive import alive, until
from tests.agent_client.door import Door, listening
from tests.agent_client.earlier import enroll_as_earlier
from tests.agent_client.fleet import AGENT, Fleet, now_ms, own_id
from tests.agent_client.hub import Hub, running
from tests.agent_client.test_daemon import daemon_of

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("hurried")


async def test_the_daemon_takes_up_such_a_folder_at_its_first_start_and_leaves_it_readable_for_the_earlier_version(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        enroll_as_earlier(fleet, places, hub.port)
        config, chain = (places.config / "config.json").read_bytes(), (places.certs / "client.crt").read_text()
        async with daemon_of(places) as daemon:
            peer = await hub.peer()
            await peer.first(Heartbeat)
            assert await asyncio.to_thread(main, ["status", "--data-dir", str(places.state)]) == 0
            mapped = await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/maps").read_text)
            await peer.send(fleet.command(fleet.envelope(own_id("job-1"), ["true"])))
            assert (await peer.first(CommandResult)).status is CommandOutcome.COMPLETED
            daemon.process.terminate()
            assert await daemon.ended() == 0
        async with daemon_of(places) as daemon:
            await (await hub.peer(2)).first(Heartbeat)
            daemon.process.terminate()
            assert await daemon.ended() == 0
            assert not [line for line in daemon.lines if "earlier version" in line["message"]], "it is done once"
    assert "cryptography" not in mapped
    assert (places.config / "config.json").read_bytes() == config
    written = places.certs / "client.crt"
    assert written.read_text().endswith(chain)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(written, places.certs / "client.key")
    (pair,) = Pairs(places).candidates(AGENT)
    assert abs(pair.facts.not_after_ms - now_ms() - 30 * 86_400_000) < 120_000


async def test_a_certificate_of_the_earlier_version_is_renewed_when_it_is_due(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub(certify=fleet.certify)) as hub:
        enroll_as_earlier(fleet, places, hub.port, days=5, age_days=25)
        async with alive(places):
            second = await hub.peer(2)
            await second.first(Heartbeat)
            assert second.all(Hello)[0].last_disconnect is None
            await until(lambda: len(Pairs(places).candidates(AGENT)) == 1)


async def test_one_that_ran_out_meanwhile_is_recovered(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    door = Door(fleet, recover=lambda _: (202, EnrollPending(agent_id=AGENT, poll_after_sec=5)))
    with listening(door, tmp_path / "server", only_clients_of=fleet, verify_mode=ssl.CERT_OPTIONAL):
        enroll_as_earlier(fleet, places, door.port, days=-1)
        async with alive(places) as agent:
            await until(lambda: door.recoveries)
            await until(lambda: agent.status().certificate.renewal == "awaiting_approval")


async def test_a_first_start_that_is_killed_before_the_write_is_made_up_for_by_the_next(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        enroll_as_earlier(fleet, places, hub.port)
        before = (places.certs / "client.crt").read_bytes()
        killed = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.agent_client.dying", "1", "daemon", str(places.state)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        async with asyncio.timeout(30):
            assert await killed.wait() == -signal.SIGKILL
        assert (places.certs / "client.crt").read_bytes() == before
        async with alive(places):
            await (await hub.peer()).first(Heartbeat)


async def test_a_certificate_that_is_not_this_agents_is_left_as_it_is_and_said(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        enroll_as_earlier(Fleet(), places, hub.port)
        (places.certs / "ca-bundle.crt").write_text(fleet.bundle_pem)
        before = (places.certs / "client.crt").read_bytes()
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "earlier version" in agent.status().advice
    assert (places.certs / "client.crt").read_bytes() == before
    assert hub.peers == []


def test_before_the_first_start_the_command_line_says_what_brings_it_up_to_date(
    fleet: Fleet, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll_as_earlier(fleet, places, 1)
    assert load_config(places).agent_id == AGENT
    assert main(["status", "--data-dir", str(places.state)]) == 3
    assert f"agent         {AGENT}" in capsys.readouterr().out
    assert main(["test-connection", "--data-dir", str(places.state)]) == 1
    assert "jtnt-agentd brings it up to date" in capsys.readouterr().err
