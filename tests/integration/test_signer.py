"""A real hub whose signer dies: commands wait for it, and nothing else does."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub_server.pki.trust import document_of
from hub_server.signing.strongbox import Strongbox
from protocol.frames import Command
from tests.integration.hub import RunningHub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.machine import enroll, greeted, heartbeat
from tests.integration.person import Json, Person, watching
from tests.integration.process_hub import process_hub


def signer_of(hub: RunningHub, pid: int | None = None) -> psutil.Process:
    """Return the process in which the hub of this folder has its commands signed; `pid`: the hub's."""
    [found] = [
        child
        for child in psutil.Process(pid).children()
        if "hub_server.signing" in child.cmdline() and str(hub.folder / "signer.key") in child.cmdline()[-1]
    ]
    return found


def holds(pid: int, secret: bytes) -> bool:
    """Tell whether the memory of a process that this test started holds `secret`."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if not rights.startswith("rw") or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            first, _, last = span.partition("-")
            memory.seek(int(first, 16))
            with suppress(OSError):
                if secret in memory.read(int(last, 16) - int(first, 16)):
                    return True
    return False


async def ordered(person: Person, agent_id: str) -> Json:
    """Return the command that the hub takes once its signer is back; until then it must say `unavailable`."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            reply = await person.ask("commands:create", agentId=agent_id, commandData={"argv": ["true"]})
            if reply["ok"]:
                command: Json = reply["command"]
                return command
            assert reply["error"]["code"] == "unavailable", reply
            await asyncio.sleep(0.1)


async def test_without_its_signer_the_hub_takes_no_commands_and_does_all_else(hub: RunningHub, folder: Path) -> None:
    identity = await enroll(hub, folder, "signed-for")
    async with watching(hub, await hub.sign_in()) as person, greeted(hub, identity) as agent:
        await ordered(person, identity.agent_id)
        await agent.take(Command)
        first = signer_of(hub)
        first.kill()
        first.wait(10)
        assert (await person.do("agents:list"))["agents"]
        await agent.send(heartbeat())
        command = await ordered(person, identity.agent_id)
        frame = await agent.take(Command, lambda each: each.command_id == command["id"])
        assert signer_of(hub).pid != first.pid
    [signature] = frame.signatures
    trusted = {key.key_id: key.public_key for key in document_of(hub.authority.trust).signers}
    public_key = Ed25519PublicKey.from_public_bytes(base64.b64decode(trusted[signature.key_id]))
    public_key.verify(base64.b64decode(signature.signature), base64.b64decode(frame.payload))
    logged = [json.loads(line) for line in (hub.folder / "signer.log").read_text().splitlines()]
    assert command["id"] in {line.get("jobId") for line in logged}


async def test_the_key_that_signs_commands_is_never_in_the_hubs_own_process(folder: Path) -> None:
    """Neither that key nor what seals it: not when it was made, nor when it signed."""
    async with process_hub(folder / "hub") as hub:
        identity = await enroll(hub, folder, "signed-for")
        async with watching(hub, await hub.sign_in()) as person:
            await ordered(person, identity.agent_id)
        key_id, sealed = hub.authority._keyring.job_key(datetime.now(UTC))
        key = Strongbox(hub.folder / "signer.key")._open(key_id, sealed).private_bytes_raw()
        sealing = base64.b64decode((hub.folder / "signer.key").read_bytes())
        own = hub.authority.jwt_key.private_bytes_raw()
        assert holds(signer_of(hub, hub.pid).pid, key)
        assert holds(hub.pid, own)  # the search is not blind
        assert not holds(hub.pid, key)
        assert not holds(hub.pid, sealing)
