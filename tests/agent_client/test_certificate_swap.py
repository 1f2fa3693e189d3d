"""The change of key and certificate on disk, cut off by SIGKILL at every step of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from protocol.frames import Heartbeat
from tests.agent_client.fleet import AGENT, Fleet, described_chain
from tests.agent_client.hub import Hub, running

ROOT = Path(__file__).parents[2]
RENAMES = ("next key", "next certificate", "key promoted", "certificate promoted")


def usable_pairs(places: Places) -> list[str]:
    """Return the certificates an agent would try, each of which the TLS library takes with its key."""
    found = []
    for pair in Pairs(places).candidates(AGENT):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pair.certificate, pair.key)
        found.append(pair.certificate.read_text())
    return found


def test_a_swap_killed_at_any_file_operation_leaves_a_whole_pair_and_can_be_completed(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    fleet.enroll_by_hand(places, 1)
    key = Ed25519PrivateKey.generate()
    (places.state / "new.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (places.state / "new.crt").write_bytes(described_chain(fleet.client_certificate(key.public_key())))
    old, new = (places.certs / "client.crt").read_text(), (places.state / "new.crt").read_text()
    seen: list[list[str]] = []
    for step in itertools.count(1):
        copy = Places.inside(tmp_path / f"step-{step}")
        shutil.copytree(places.state, copy.state)
        arguments = [sys.executable, "-m", "tests.agent_client.dying", str(step), "swap", str(copy.state)]
        ran = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert ran.stdout == "done" or ran.returncode == -signal.SIGKILL, ran.stderr
        found = usable_pairs(copy)
        seen.append(found)
        assert found[-1] in {old, new}
        Pairs(copy).promote()
        assert usable_pairs(copy) == [found[0]], "promoting makes the first choice the only one"
        if ran.stdout == "done":
            break
    assert len(seen) > 12
    assert seen[0] == [old]
    assert [new, old] in seen
    assert seen[-1] == [new]


@pytest.mark.parametrize("step", range(1, len(RENAMES) + 1), ids=RENAMES)
@pytest.mark.usefixtures("hurried")
async def test_a_daemon_killed_at_any_step_of_a_renewal_comes_back_with_a_certificate_the_hub_takes(
    fleet: Fleet, places: Places, tmp_path: Path, step: int
) -> None:
    hub = Hub(certify=fleet.certify)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.agent_client.dying", str(step), "daemon", str(places.state)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        async with asyncio.timeout(30):
            assert await daemon.wait() == -signal.SIGKILL
        assert usable_pairs(places)
        sessions = len(hub.peers)
        again = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent_client.daemon", "--data-dir", str(places.state)),
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            stdout=subprocess.DEVNULL,
        )
        try:
            if step >= RENAMES.index("key promoted") + 1:
                assert len(hub.welcomed) == 2, "the hub has welcomed the new one already, and takes no older"
                await (await hub.peer(sessions + 1)).first(Heartbeat)
            async with asyncio.timeout(30):
                while len(hub.welcomed) < 2:
                    await hub.peer(len(hub.peers) + 1)
            await hub.peers[-1].first(Heartbeat)
            again.terminate()
            assert await again.wait() == 0
        finally:
            if again.returncode is None:
                again.kill()
                await again.wait()
    assert len(usable_pairs(places)) == 1
    assert hub.peers[-1].serial == hub.welcomed[-1]
