"""Orders that nobody signed, and true ones said again: none of them runs."""

from __future__ import annotations

import base64
import random
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from protocol.enumerations import CommandReason
from protocol.frames import Command, CommandQuery, CommandResult, CommandState, Signature
from scripts.proofs.jobs.stolen_hub import StolenHub, stolen_hub
from scripts.proofs.report import Report
from tests.agent_client.fleet import Signer

FORGED: Final = 500
REPLAYS: Final = 1000
PER_BATCH: Final = 50
CLOCK_BACK_SECONDS: Final = -7200.0
OTHER_AGENT: Final = "agent-2"
Forgery = Callable[[StolenHub, Command, random.Random], Command]


def _with_payload(command: Command, payload: bytes) -> Command:
    return msgspec.structs.replace(command, payload=base64.b64encode(payload).decode())


def _changed(command: Command, **changes: Any) -> Command:
    """Return the order with fields changed and the true signature of what it was."""
    order = msgspec.json.decode(base64.b64decode(command.payload))
    return _with_payload(command, msgspec.json.encode({**order, **changes}))


def _a_bit_flipped(_stolen: StolenHub, command: Command, chance: random.Random) -> Command:
    payload = bytearray(base64.b64decode(command.payload))
    payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
    return _with_payload(command, bytes(payload))


def _a_signature_bit_flipped(_stolen: StolenHub, command: Command, chance: random.Random) -> Command:
    raw = bytearray(base64.b64decode(command.signatures[0].signature))
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    changed = Signature(key_id=command.signatures[0].key_id, signature=base64.b64encode(raw).decode())
    return msgspec.structs.replace(command, signatures=[changed])


def _another_key(_stolen: StolenHub, command: Command, _chance: random.Random) -> Command:
    return msgspec.structs.replace(command, signatures=[Signer().sign(base64.b64decode(command.payload))])


def _another_key_by_the_true_name(stolen: StolenHub, command: Command, _chance: random.Random) -> Command:
    own = Signer().sign(base64.b64decode(command.payload))
    named = Signature(key_id=stolen.fleet.signer.key_id, signature=own.signature)
    return msgspec.structs.replace(command, signatures=[named])


def _signed_for(stolen: StolenHub, command: Command, **changes: Any) -> Command:
    """Return a true order for somebody else, under this command's id."""
    argv = msgspec.json.decode(base64.b64decode(command.payload))["argv"]
    envelope = stolen.fleet.envelope(changes.pop("job_id", command.command_id), argv, **changes)
    return stolen.fleet.command(envelope, command_id=command.command_id)


FORGERIES: Final[Mapping[str, Forgery]] = {
    "a bit of the order": _a_bit_flipped,
    "a bit of the signature": _a_signature_bit_flipped,
    "other arguments": lambda _s, command, chance: _changed(command, argv=["touch", f"/tmp/{chance.random()}"]),  # noqa: S108
    "a later expiry": lambda _s, command, _c: _changed(command, expiresAt=2**52 + 1),
    "another user": lambda _s, command, _c: _changed(command, runAs="root"),
    "another action": lambda _s, command, _c: _changed(command, action="script", scriptSha256="0" * 64),
    "another environment": lambda _s, command, _c: _changed(command, environment={"LD_PRELOAD": "/evil.so"}),
    "no signature": lambda _s, command, _c: msgspec.structs.replace(command, signatures=[]),
    "an empty signature": lambda s, command, _c: msgspec.structs.replace(
        command, signatures=[Signature(key_id=s.fleet.signer.key_id, signature="")]
    ),
    "another key": _another_key,
    "another key by the true one's name": _another_key_by_the_true_name,
    "true, for another agent": lambda s, command, _c: _signed_for(s, command, agent_id=OTHER_AGENT),
    "true, for another organisation": lambda s, command, _c: _signed_for(s, command, organisation_id="org-2"),
    "true, of another command": lambda s, command, _c: _signed_for(s, command, job_id=str(uuid.uuid4())),
    "true, and expired": lambda s, command, _c: _signed_for(s, command, issued_at=1, expires_at=2),
    "no base64": lambda _s, command, _c: msgspec.structs.replace(command, payload="%%%"),
}


async def show(report: Report) -> None:
    await report.show(f"{FORGED} orders forged or altered by who has all but the signer: 0 run", forged)
    await report.show(
        f"one true order said {REPLAYS:,} times, after a restart, clock back, to another: 1 run", replayed
    )


async def forged(count: int = FORGED) -> str:
    async with stolen_hub() as stolen:
        await stolen.start()
        chance, rules = random.Random(5), Counter[str]()  # noqa: S311  a repeatable choice of forgeries
        refused: list[CommandResult] = []
        names = [list(FORGERIES)[number % len(FORGERIES)] for number in range(count)]
        for first in range(0, count, PER_BATCH):
            batch = names[first : first + PER_BATCH]
            for number, name in enumerate(batch, start=first):
                await stolen.peer.send(FORGERIES[name](stolen, true_order(stolen, f"forged-{number}"), chance))
            refused = await stolen.peer.several(first + len(batch), CommandResult)
        for result in refused:
            assert result.reason in {CommandReason.DENIED_BY_AGENT, CommandReason.EXPIRED}, result
            rules[result.rule] += 1
        assert stolen.marks() == 0, f"{stolen.marks()} ran"
        await must_run(stolen, "true-after-all")
    return f"{count} refused, 0 run, a true one after them did; " + ", ".join(
        f"{rule} {number}" for rule, number in rules.most_common()
    )


async def replayed(times: int = REPLAYS) -> str:
    async with stolen_hub() as stolen:
        await stolen.start()
        order = await must_run(stolen, "once")
        said = 0
        for begin in (None, stolen.start, lambda: stolen.start(shift_seconds=CLOCK_BACK_SECONDS)):
            if begin is not None:
                await stolen.kill()
                await begin()
            for _ in range(times // 4):
                await stolen.peer.send(order)
                said += 1
            await settled(stolen)
            assert stolen.marks() == 1, f"{stolen.marks()} runs after {said} times"
        await stolen.kill()
        await stolen.start("other", OTHER_AGENT)
        for _ in range(times - said):
            await stolen.peer.send(order)
        await stolen.peer.first(CommandResult)
        await settled(stolen)
        assert {result.rule for result in stolen.peer.all(CommandResult)} == {"agent"}, stolen.peer.all(CommandResult)
        assert stolen.marks() == 1, f"{stolen.marks()} runs"
    return f"{times} times in all: 1 run; refused by another agent"


def true_order(stolen: StolenHub, name: str) -> Command:
    """Return an order that leaves a mark of its run."""
    argv = ["sh", "-c", 'echo ran >> "$1"', "sh", str(stolen.runs / name)]
    return stolen.fleet.command(stolen.fleet.envelope(str(uuid.uuid4()), argv, expires_at=2**52))


async def must_run(stolen: StolenHub, name: str) -> Command:
    before, order = stolen.marks(), true_order(stolen, name)
    await stolen.peer.send(order)
    result = await stolen.peer.first(CommandResult, lambda found: found.command_id == order.command_id)
    assert result.status == "COMPLETED", result
    assert stolen.marks() == before + 1
    return order


async def settled(stolen: StolenHub) -> None:
    """Return once the agent has dealt with all that was said to it: frames are dealt with in order."""
    asked = str(uuid.uuid4())
    await stolen.peer.send(CommandQuery(command_id=asked))
    await stolen.peer.first(CommandState, lambda state: state.command_id == asked)
