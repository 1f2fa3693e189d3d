"""The hub's side with a real signer's process: signatures, its death, its silence, and whom it lets in."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub_server.errors import InvalidRequest, KeysRefused, RateLimited, Unavailable
from hub_server.signing.model import Terms
from hub_server.signing.service import Signer
from hub_server.signing.worker import SignerKeeper
from protocol.identity import key_id_of
from tests.hub_server.signing.orders import payload
from tests.stand_ins import stand_in

NOBODY = 65534
ANOTHER_USER = 65533


def terms_in(folder: Path, **changes: Any) -> Terms:
    values = {"key_file": str(folder / "signer.key"), "log_file": str(folder / "signer.log")}
    return Terms(**values | changes)


@asynccontextmanager
async def signer_in(folder: Path, *, answer_seconds: float = 5.0, **changes: Any) -> AsyncIterator[Signer]:
    signer = Signer(terms_in(folder, **changes), answer_seconds=answer_seconds)
    try:
        yield signer
    finally:
        await signer.close()


async def test_it_signs_what_may_be_signed_and_says_why_it_does_not(tmp_path: Path) -> None:
    async with signer_in(tmp_path, per_second=0.001, burst=4) as signer:
        public_key, sealed = await signer.make()
        key_id, message = key_id_of(public_key), payload()
        assert signer.pid not in {None, os.getpid()}
        signature = await signer.sign(key_id, sealed, message)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        with pytest.raises(InvalidRequest, match="expired"):
            await signer.sign(key_id, sealed, payload(expires_at=1))
        with pytest.raises(Unavailable):
            await signer.sign(key_id, sealed[:-1] + b"x", message)
        with pytest.raises(RateLimited) as limited:
            await signer.sign(key_id, sealed, message)
        assert limited.value.retry_after_seconds


async def test_many_at_once_each_get_their_own(tmp_path: Path) -> None:
    async with signer_in(tmp_path) as signer:
        public_key, sealed = await signer.make()
        messages = [payload() for _ in range(200)]
        signatures = await asyncio.gather(*(signer.sign(key_id_of(public_key), sealed, each) for each in messages))
        for message, signature in zip(messages, signatures, strict=True):
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)


async def test_killed_it_is_unavailable_and_comes_back_by_itself(tmp_path: Path) -> None:
    async with signer_in(tmp_path) as signer, asyncio.TaskGroup() as group:
        keeper = group.create_task(SignerKeeper(signer, again_seconds=0.6).run(), name="keeper")
        public_key, sealed = await signer.make()
        first = signer.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        asked = group.create_task(_refusal(signer, key_id_of(public_key), sealed), name="asked")
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        assert (await asked).retry_after_seconds == 1
        async with asyncio.timeout(30):
            while signer.pid in {None, first}:  # noqa: ASYNC110  it tells nobody that it is back
                await asyncio.sleep(0.05)
        assert await signer.sign(key_id_of(public_key), sealed, payload())
        assert not psutil.pid_exists(first)
        keeper.cancel()


async def _refusal(signer: Signer, key_id: str, sealed: bytes) -> Unavailable:
    with pytest.raises(Unavailable) as away:
        await signer.sign(key_id, sealed, payload())
    return away.value


async def test_the_keeper_waits_longer_each_time_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            raise asyncio.CancelledError

    monkeypatch.setattr("hub_server.signing.worker.asyncio", stand_in(asyncio, sleep=sleep))
    nobody = Signer(terms_in(tmp_path), listens_at=tmp_path / "signer.sock")
    with pytest.raises(asyncio.CancelledError):
        await SignerKeeper(nobody).run()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


async def test_whoever_stops_waiting_for_a_signer_that_starts_hangs_up(tmp_path: Path) -> None:
    """A process ends when its line does: a hub that stops while it starts would wait for it and kill it."""
    called, hung_up = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read()
        hung_up.set()
        writer.close()

    path = tmp_path / "signer.sock"
    signer = Signer(terms_in(tmp_path), listens_at=path)
    async with asyncio.timeout(30), await asyncio.start_unix_server(say_nothing, path):
        waiting = asyncio.create_task(signer.ready())
        await called.wait()
        waiting.cancel()
        await hung_up.wait()
    await signer.close()


async def test_one_that_does_not_answer_is_replaced(tmp_path: Path) -> None:
    async with signer_in(tmp_path, answer_seconds=0.3) as signer:
        public_key, sealed = await signer.make()
        first = signer.pid
        assert first is not None
        await asyncio.sleep(0.6)  # one that was started just now is not started again at once
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(Unavailable):
            await signer.sign(key_id_of(public_key), sealed, payload())
        os.kill(first, signal.SIGCONT)
        assert await signer.sign(key_id_of(public_key), sealed, payload())
        assert signer.pid != first


async def test_it_ends_with_the_hub_and_not_with_a_signal_for_the_group(tmp_path: Path) -> None:
    async with signer_in(tmp_path) as signer:
        await signer.ready()
        process = psutil.Process(signer.pid)
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
        assert (await signer.make())[0]
    assert not process.is_running()


async def test_it_knows_neither_the_hubs_settings_nor_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JTNT_DATABASE_URL", "postgresql+asyncpg://hub:secret@nowhere/hub")
    async with signer_in(tmp_path) as signer:
        await signer.ready()
        process = psutil.Process(signer.pid)
        assert "JTNT_DATABASE_URL" not in process.environ()
        libraries = {Path(each.path).name for each in process.memory_maps()}
        assert not {name for name in libraries if name.startswith(("_sqlite3", "_ssl", "_asyncio"))}


async def test_a_key_file_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "signer.key").write_text("no key")
    (tmp_path / "signer.key").chmod(0o600)
    async with signer_in(tmp_path) as signer:
        with pytest.raises(KeysRefused, match="holds no secrets key"):
            await signer.make()


# The interpreter may lie where other users cannot read: it is there before it becomes one of them.
BECOME = """
import asyncio, os, sys
from asyncio import runners, selector_events, unix_events
from pathlib import Path
from hub_server.errors import Unavailable
from hub_server.signing import __main__ as signing
from hub_server.signing.model import Terms
from hub_server.signing.service import Signer
user = int(sys.argv.pop(1))
os.setgroups([])
os.setgid(user)
os.setuid(user)
"""
SERVE = "signing.main()"
ASK = """
async def main():
    signer = Signer(Terms(key_file="", log_file=""), listens_at=Path(sys.argv[1]))
    try:
        print(len((await signer.make())[1]) > 0)
    except Unavailable as error:
        print(error)
    finally:
        await signer.close()
    try:
        print(Path(sys.argv[1]).with_name("signer.key").read_bytes())
    except PermissionError:
        print("no key to read")
asyncio.run(main())
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Path]:
    """The socket of a signer that is a service of the user NOBODY, who lets in ANOTHER_USER."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    home = tmp_path / "service"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    terms = terms_in(home, listen=str(home / "signer.sock"), users=[ANOTHER_USER])
    argv = [sys.executable, "-c", BECOME + SERVE, str(NOBODY), msgspec.json.encode(terms).decode()]
    process = subprocess.Popen(argv)
    try:
        yield home / "signer.sock"
    finally:
        process.terminate()
        assert process.wait(10) == 0


async def reached(path: Path) -> Signer:
    signer = Signer(terms_in(path.parent), listens_at=path)
    async with asyncio.timeout(30):
        while True:
            try:
                await signer.ready()
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                return signer


async def test_as_a_service_of_another_user_it_lets_in_whom_it_was_told_and_shows_nobody_its_key(
    service: Path,
) -> None:
    signer = await reached(service)
    public_key, sealed = await signer.make()
    assert await signer.sign(key_id_of(public_key), sealed, payload())
    await signer.close()
    said = []
    for user in (ANOTHER_USER, ANOTHER_USER - 1):
        asked = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", BECOME + ASK, str(user), str(service)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        said.append(asked.stdout.splitlines()[-2:])  # before them a line of the log
    assert said[0] == ["True", "no key to read"]
    assert said[1] == [f"the signer of commands does not answer at {service}", "no key to read"]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process")
async def test_as_a_service_that_is_out_of_descriptors_for_a_while_it_lets_in_who_waited(tmp_path: Path) -> None:
    terms = terms_in(tmp_path, listen=str(tmp_path / "signer.sock"))
    process = psutil.Popen([sys.executable, "-m", "hub_server.signing", msgspec.json.encode(terms).decode()])
    try:
        signer = await reached(tmp_path / "signer.sock")
        _, most = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (3, most))
        connections = [await asyncio.open_unix_connection(tmp_path / "signer.sock") for _ in range(2)]
        reader, _ = connections[1]  # the descriptor of the first one is taken before there is any
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(1)
        process.rlimit(psutil.RLIMIT_NOFILE, (most, most))
        async with asyncio.timeout(30):
            assert await reader.read(1)
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()
        await signer.close()
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait, 60) == 0
