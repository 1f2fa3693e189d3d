"""A daemon without rights beside an executor of root's: real processes of two users."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import psutil
import pytest

from agent_client.execution.door import socket_of
from agent_client.paths import TRUST, Places
from protocol.enumerations import CommandReason
from protocol.frames import CommandResult
from tests.agent_client.fleet import Fleet, Signer, own_id
from tests.agent_client.hub import Hub, running

ROOT = Path(__file__).parents[2]
NOBODY = pwd.getpwnam("nobody")
AS_NOBODY = ["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups"]
KNOCK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as channel:
    channel.settimeout(15)
    channel.connect(sys.argv[1])
    sys.stdout.write(repr(channel.recv(64)) if channel.recv(4) else "")
"""
"""Says what an executor answers to whoever comes; nothing where it hangs up."""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to become another user"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where another user may go, unlike into a test's own folder."""
    folder = Path(tempfile.mkdtemp(prefix="jtnt-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@asynccontextmanager
async def process(*argv: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    started = await asyncio.create_subprocess_exec(
        *argv, cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            started.send_signal(signal.SIGTERM)
        await started.communicate()


def as_nobody(*argv: str) -> int:
    return subprocess.run([*AS_NOBODY, *argv], capture_output=True, timeout=20, check=False).returncode


def as_user(name: str, *argv: str) -> bytes:
    command = ["setpriv", f"--reuid={name}", "--clear-groups", *argv]
    return subprocess.run(command, capture_output=True, timeout=20, check=True).stdout


def give_to_nobody(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)


async def test_a_signed_job_runs_as_root_though_its_daemon_may_nothing(fleet: Fleet, folder: Path) -> None:
    places, own = Places.inside(folder / "agent"), folder / "executor"
    async with running(fleet, folder, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, executor_service=True)
        give_to_nobody(places.state)
        arguments = ["executor", "--data-dir", str(places.state), "--folder", str(own)]
        async with (
            process(sys.executable, "-m", "agent_client.cli", *arguments),
            process(*AS_NOBODY, sys.executable, "-m", "agent_client.daemon", "--data-dir", str(places.state)) as daemon,
        ):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("privilege-1"), ["id", "-un"])))
            assert (await peer.first(CommandResult)).exit_code == 0
            assert hub.output[own_id("privilege-1"), "stdout"] == b"root\n"
            assert psutil.Process(daemon.pid).username() == "nobody"
            status = socket_of(places).stat()
            assert (status.st_uid, status.st_mode & 0o777) == (NOBODY.pw_uid, 0o600)
            socket_of(places).chmod(0o666)
            assert as_user("daemon", sys.executable, "-c", KNOCK, str(socket_of(places))) == b""
            assert as_user("nobody", sys.executable, "-c", KNOCK, str(socket_of(places))) != b""
            assert as_nobody("cat", str(own / "journal.db")) != 0
            assert as_nobody("touch", str(own / "jobs" / "x")) != 0

            forger = Signer()
            document = fleet.trust_document(version=2, signers=[forger.as_trusted()])
            forged = Fleet().sign_trust(document)  # what the daemon's user can write, no root of this fleet has signed
            (places.state / TRUST).write_bytes(msgspec.json.encode(forged))
            await peer.send(
                fleet.command(fleet.envelope(own_id("privilege-2"), ["touch", str(folder / "ran")]), forger)
            )
            refusal = await peer.first(CommandResult, lambda result: result.command_id == own_id("privilege-2"))
            assert (refusal.reason, refusal.rule) == (CommandReason.DENIED_BY_AGENT, "trust")
            assert not (folder / "ran").exists()
