"""`jtnt-hub signer` as it is started by a service manager."""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path

from hub_server.cli.main import run
from hub_server.cli.outcome import Exit
from hub_server.errors import Unavailable
from hub_server.signing.model import Terms
from hub_server.signing.service import Signer

PROGRAM = Path(sys.executable).parent / "jtnt-hub"


async def test_it_signs_at_its_socket_until_it_is_told_to_end(tmp_path: Path) -> None:
    place, key, log = tmp_path / "signer.sock", tmp_path / "signer.key", tmp_path / "signer.log"
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "signer", "--listen", place, "--key-file", key, "--log-file", log, "--user", "root"
    )
    signer = Signer(Terms(key_file="", log_file=""), listens_at=place)
    try:
        async with asyncio.timeout(60):
            while not place.exists() or not await answers(signer):  # noqa: ASYNC110  another process makes it
                await asyncio.sleep(0.1)
        assert signer.pid == process.pid  # the small process took the place of the command line's
        assert stat.S_ISSOCK(place.stat().st_mode)
        assert log.read_text().count("made a key") == 1
    finally:
        await signer.close()
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    assert not place.exists()


async def answers(signer: Signer) -> bool:
    try:
        return bool(await signer.make())
    except Unavailable:
        return False


def test_what_it_cannot_begin_with_is_said(tmp_path: Path) -> None:
    paths = ("--listen", str(tmp_path / "s"), "--key-file", str(tmp_path / "k"), "--log-file", str(tmp_path / "l"))
    assert run_signer(*paths, "--user", "nobody-of-this-name") == Exit.USAGE
    assert run_signer(*paths, "--burst", "0") == Exit.USAGE
    assert run_signer("--listen", str(tmp_path / "s")) == Exit.USAGE
    assert list(tmp_path.iterdir()) == []


def run_signer(*arguments: str) -> int:
    return run(["signer", *arguments])
