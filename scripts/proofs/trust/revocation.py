"""Revoked means out: within a second, and whatever the agent asked for in the same moment."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub_server.bench.agent import AGENT_VERSION, address_of, now_ms
from hub_server.bench.identities import (
    ANCHORS,
    SERVER_NAME,
    enroll_all,
    identity_context,
    identity_file,
    write_private,
)
from hub_server.bench.orders import Enroll
from hub_server.bench.websocket import ClientSocket
from protocol.codec import decode_hub_frame, encode
from protocol.codes import CloseCode
from protocol.enumerations import CertificateState
from protocol.frames import (
    CertificateReply,
    CertificateRequest,
    Error,
    Hello,
    Refuse,
    StreamState,
    StreamStates,
    Welcome,
)
from protocol.limits import PROTOCOL_VERSION
from protocol.oversight import CertificatesListReply
from scripts.load.person import Person, dashboard
from scripts.load.renewing import agent_id_in
from scripts.measures.hub import Hub
from scripts.proofs.report import Report
from tests.servers.postgres import running_server

REVOCATIONS: Final = 100
RACES: Final = 200
WITHIN_SECONDS: Final = 1.0
DEADLINE_SECONDS: Final = 15.0
HEAD_START_SECONDS: Final = (-0.005, 0.04)
"""Of the request before the revocation: about as long as the hub takes for either."""
DATABASE: Final = "revocation"
UNHURRIED: Final = {"JTNT_ACCESS__OPERATIONS_PER_SECOND": "10000", "JTNT_ACCESS__OPERATIONS_AT_ONCE": "100000"}


class Wire:
    """One connection of an agent, and what the hub said on it."""

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.welcomed: asyncio.Future[Welcome | Refuse] = loop.create_future()
        self.answered: asyncio.Future[CertificateReply | Error] = loop.create_future()
        self.ended: asyncio.Future[tuple[int, float]] = loop.create_future()
        self.socket: ClientSocket | None = None

    def opened(self, socket: ClientSocket) -> None:
        self.socket = socket
        empty = StreamState(epoch=1, oldest=1, newest=0)
        hello = Hello(
            protocol=(PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent_version=AGENT_VERSION,
            boot_id=f"simulated-{self.number}",
            clock_ms=now_ms(),
            monotonic_ms=1,
            streams=StreamStates(live=empty, backfill=empty, events=empty),
        )
        socket.send(encode(hello))

    def received(self, text: bytes) -> None:
        match decode_hub_frame(text):
            case Welcome() | Refuse() as greeting:
                self.welcomed.set_result(greeting)
            case CertificateReply() | Error() as answer:
                self.answered.set_result(answer)
            case _:
                pass

    def closed(self, code: int, reason: str) -> None:
        self.ended.set_result((code, time.monotonic()))
        for waiting in (self.welcomed, self.answered):
            if not waiting.done():
                waiting.cancel(reason)

    def abort(self) -> None:
        if self.socket is not None:
            self.socket.abort()


class Field:
    """Enrolled agents of one hub, and a person who may revoke them."""

    def __init__(self, hub: Hub, person: Person, folder: Path, count: int) -> None:
        self.person = person
        self._hub = hub
        self._folder = folder
        self._anchors = (folder / ANCHORS).read_text()
        self.agent_ids = [agent_id_in(identity_file(folder, number)) for number in range(count)]

    async def connect(self, number: int) -> Wire:
        """Return a connection on which the hub has greeted the agent, or refused it."""
        wire = Wire(number)
        await asyncio.get_running_loop().create_connection(
            lambda: ClientSocket(wire),
            "127.0.0.1",
            self._hub.agent_port,
            ssl=identity_context(self._folder, self._anchors, number),
            server_hostname=SERVER_NAME,
            local_addr=(address_of(number), 0),
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            await wire.welcomed
        return wire

    async def revoke(self, number: int) -> None:
        await self.person.ask("agents:revoke", agentId=self.agent_ids[number])

    async def is_out(self, number: int) -> bool:
        """Tell whether the hub refuses the certificate that the agent has now, for good."""
        wire = await self.connect(number)
        async with asyncio.timeout(DEADLINE_SECONDS):
            refused = isinstance(wire.welcomed.result(), Refuse)
            if not refused:
                wire.abort()
            code, _ = await wire.ended
        return refused and code == CloseCode.REVOKED

    async def usable(self) -> int:
        """Return how many certificates the hub still lets in."""
        reply = await self.person.ask("certificates:list", state=CertificateState.CURRENT.value)
        assert isinstance(reply, CertificatesListReply)
        return reply.total

    def keep(self, number: int, key: Ed25519PrivateKey, certificate_pem: str) -> None:
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(identity_file(self._folder, number), private + certificate_pem.encode())


async def cut_off(field: Field, numbers: Sequence[int]) -> str:
    """Revoke one connected agent after the other. Raises AssertionError when one stays for longer than a second."""
    wires = [await field.connect(number) for number in numbers]
    took: list[float] = []
    for wire in wires:
        started = time.monotonic()
        await field.revoke(wire.number)
        async with asyncio.timeout(DEADLINE_SECONDS):
            code, ended_at = await wire.ended
        took.append(ended_at - started)
        assert code == CloseCode.REVOKED, code
        assert took[-1] <= WITHIN_SECONDS, f"{took[-1]:.3f} s"
        assert await field.is_out(wire.number)
    return (
        f"{len(took)} of {len(numbers)} closed with {CloseCode.REVOKED:d}; "
        f"median {statistics.median(took) * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms"
    )


async def race(field: Field, numbers: Sequence[int]) -> str:
    """Let each agent renew while it is revoked. Raises AssertionError when anything it holds afterwards is good."""
    outcomes: Counter[str] = Counter()
    for number in numbers:
        wire, key = await field.connect(number), Ed25519PrivateKey.generate()
        outcome, certificate_pem = await _raced(field, wire, key)
        outcomes[outcome] += 1
        assert await field.is_out(number), f"agent {number} got in with its old certificate; {outcome}"
        if certificate_pem is not None:
            field.keep(number, key, certificate_pem)
            assert await field.is_out(number), f"agent {number} got in with a certificate of the race"
    usable = await field.usable()
    assert usable == 0, f"{usable} certificates of revoked agents still count"
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    return f"{len(numbers)} races: {told}; 0 certificates usable afterwards"


async def _raced(field: Field, wire: Wire, key: Ed25519PrivateKey) -> tuple[str, str | None]:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    frame = CertificateRequest(request_id="race", csr_pem=request.public_bytes(Encoding.PEM).decode())
    assert wire.socket is not None
    async with asyncio.TaskGroup() as tasks:
        head_start = random.uniform(*HEAD_START_SECONDS)  # noqa: S311  a moment of chance is the point
        if head_start > 0:
            wire.socket.send(encode(frame))
            await asyncio.sleep(head_start)
        revoking = tasks.create_task(field.revoke(wire.number))
        if head_start <= 0:
            await asyncio.sleep(-head_start)
            wire.socket.send(encode(frame))
        await revoking
    async with asyncio.timeout(DEADLINE_SECONDS):
        code, _ = await wire.ended
    assert code == CloseCode.REVOKED, code
    if wire.answered.cancelled():
        return "cut off before an answer", None
    answer = wire.answered.result()
    if isinstance(answer, CertificateReply):
        return "renewed just before", answer.certificate_pem
    return "renewal refused", None


@asynccontextmanager
async def field_of(hub: Hub, folder: Path, count: int) -> AsyncIterator[Field]:
    """Enroll `count` agents at a running hub with an administrator."""
    plan = Enroll(join_string=await hub.join_string(count), folder=str(folder), first=0, count=count)
    problems = await enroll_all(plan)
    assert not problems, problems
    async with dashboard(hub.web_url, await hub.access_token(), {}) as person:
        yield Field(hub, person, folder, count)


async def show(report: Report) -> None:
    """On each database: 100 revocations of connected agents, 200 that race a renewal, all of it after a restart."""
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-") as name:
        await _shown_on(report, "SQLite", Path(name), {})
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-") as name, running_server() as server:
        server.create(DATABASE)
        await _shown_on(report, "PostgreSQL", Path(name), {"JTNT_DATABASE_URL": server.url_of(DATABASE)})


async def _shown_on(report: Report, database: str, folder: Path, variables: Mapping[str, str]) -> None:
    hub = Hub(folder / "hub", {**UNHURRIED, **variables})
    revoked, raced = range(REVOCATIONS), range(REVOCATIONS, REVOCATIONS + RACES)
    try:
        await hub.start()
        await hub.create_administrator()
        async with field_of(hub, folder / "agents", REVOCATIONS + RACES) as field:
            await report.show(
                f"revoke → socket closed within a second, {REVOCATIONS} times; {database}",
                lambda: cut_off(field, revoked),
            )
            await report.show(
                f"revoke races renew, {RACES} times: no certificate after the revocation; {database}",
                lambda: race(field, raced),
            )
        await hub.stop()
        await hub.start()

        async def still_out() -> str:
            out = [await field.is_out(number) for number in (*revoked, *raced)]
            assert all(out), f"{out.count(False)} of {len(out)} got in"
            return f"{len(out)} of {len(out)} refused with {CloseCode.REVOKED:d}"

        await report.show(f"the restarted hub still refuses every one of them; {database}", still_out)
    finally:
        await hub.stop()
