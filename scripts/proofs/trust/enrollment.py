"""One use of a token, one certificate: whoever races for it, and wherever the hub is killed.

The kills are at single system calls and need strace; without it their lines fail and say what to install.
"""

from __future__ import annotations

import asyncio
import ssl
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct
from sqlalchemy import text

from hub_server.bench.agent import AGENT_VERSION, address_of
from hub_server.bench.identities import SERVER_NAME, client_context, loopback_url, trusted_anchors
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enrollment import EnrollmentSystemInformation, EnrollReply, EnrollRequest
from protocol.identity import JoinString
from protocol.joining import TokensCreateReply
from scripts.load.person import dashboard
from scripts.measures.hub import Hub
from scripts.proofs.report import Report
from scripts.proofs.trust.system_calls import Counted, KillPoint, killed_at
from tests.servers.postgres import running_server

RACERS: Final = 50
ROUNDS: Final = 100
ENROLL_PATH: Final = "/api/v1/agent/enroll"
CA_PATH: Final = "/api/v1/agent/ca"
DEADLINE: Final = aiohttp.ClientTimeout(total=60)
DATABASE: Final = "enrollment"
JSON: Final = {"Content-Type": "application/json"}
UNHURRIED: Final = {"JTNT_ACCESS__OPERATIONS_PER_SECOND": "10000", "JTNT_ACCESS__OPERATIONS_AT_ONCE": "100000"}

KILL_POINTS: Final[Mapping[str, Sequence[KillPoint]]] = {
    "SQLite": (
        KillPoint("a statement of the transaction", "write", 14, Counted.ANY_THREAD),
        KillPoint("a later statement", "write", 18, Counted.ANY_THREAD),
        KillPoint("one of its last statements", "write", 22, Counted.ANY_THREAD),
        KillPoint("the first write of the commit", "pwrite64", 1, Counted.ANY_THREAD),
        KillPoint("a write in its middle", "pwrite64", 12, Counted.ANY_THREAD),
        KillPoint("the commit written, not synced", "fdatasync", 1, Counted.ANY_THREAD),
        KillPoint("committed, before the log", "write", 1, Counted.ON_LOG),
        KillPoint("committed, before the answer", "write", 3, Counted.MAIN_THREAD),
    ),
    "PostgreSQL": (
        *(
            KillPoint(f"the hub's message {number}", "write", number, Counted.MAIN_THREAD)
            for number in (12, 18, 24, 30, 34, 38, 42)
        ),
        KillPoint("committed, before the log", "write", 1, Counted.ON_LOG),
    ),
}


class Counts(Struct, frozen=True):
    """Rows of a hub that count what joined: uses said by tokens, uses on record, agents and certificates."""

    used: int
    uses: int
    agents: int
    certificates: int

    @property
    def are_equal(self) -> bool:
        return self.used == self.uses == self.agents == self.certificates

    def since(self, before: Counts) -> Counts:
        return Counts(
            self.used - before.used,
            self.uses - before.uses,
            self.agents - before.agents,
            self.certificates - before.certificates,
        )


COUNTS: Final = text(
    "select (select coalesce(sum(used), 0) from enrollment_tokens), (select count(*) from enrollment_uses),"
    " (select count(*) from agents), (select count(*) from certificates)"
)


async def counts_in(url: str) -> Counts:
    """Read and let go: on SQLite, whoever keeps the database open keeps a killed hub's successor from recovering it."""
    database = Database(url)
    try:
        async with database.read(EVERY_ORGANISATION) as connection:
            used, uses, agents, certificates = (await connection.execute(COUNTS)).one()
    finally:
        await database.close()
    return Counts(int(used), uses, agents, certificates)


def request_with(join: JoinString) -> bytes:
    """Return the body of a machine with a key of its own."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(Ed25519PrivateKey.generate(), None)
    return msgspec.json.encode(
        EnrollRequest(
            token=join.token.text,
            csr_pem=csr.public_bytes(Encoding.PEM).decode(),
            agent_version=AGENT_VERSION,
            boot_id="proof",
            sysinfo=EnrollmentSystemInformation(hostname="racer", os="linux"),
        )
    )


class Site:
    """A hub and those who join it. `racers`: how many at once."""

    def __init__(self, hub: Hub, database_url: str, context: ssl.SSLContext, racers: int) -> None:
        self.hub = hub
        self.database_url = database_url
        self._context = context
        self._racers = racers
        self._addresses = 0

    @asynccontextmanager
    async def machine(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A machine at a loopback address that nobody used before."""
        self._addresses += 1
        connector = aiohttp.TCPConnector(ssl=self._context, local_addr=(address_of(self._addresses), 0))
        async with aiohttp.ClientSession(connector=connector, timeout=DEADLINE) as http:
            yield http

    async def race(self, join: JoinString) -> tuple[Counter[int], float]:
        """Let all ask at once, each on a connection that stands; return how often each status came, and the seconds."""
        async with AsyncExitStack() as stack:
            machines = [await stack.enter_async_context(self.machine()) for _ in range(self._racers)]
            await asyncio.gather(*(connect(machine, join) for machine in machines))
            bodies = [request_with(join) for _ in machines]
            began_at = time.monotonic()
            answers = await asyncio.gather(
                *(enroll(machine, join, body) for machine, body in zip(machines, bodies, strict=True))
            )
        return Counter(status for status, _ in answers), time.monotonic() - began_at

    async def kill(self, meaning: str, killed: AbstractAsyncContextManager[None], join: JoinString) -> bool:
        """Kill the hub at some point of an enrollment, start it again, and let the machine ask again.

        `killed`: within it the hub ends there. `meaning`: where that is. Returns whether the enrollment had been
        committed. Raises AssertionError when anything does not add up.
        """
        before, body = await counts_in(self.database_url), request_with(join)
        async with killed, self.machine() as machine:
            try:
                status, _ = await enroll(machine, join, body)
            except aiohttp.ClientError:
                pass
            else:
                raise AssertionError(f"the hub was not killed ({meaning}): it answered {status}")
        await self.hub.stop()
        await self.hub.start_as_users_do()
        left = (await counts_in(self.database_url)).since(before)
        assert left.are_equal, f"{meaning}: {left}"
        async with self.machine() as machine:
            status, first = await enroll(machine, join, body)
            assert status == HTTPStatus.OK, f"{meaning}: asked again, the hub said {status} {first!r}"
            _, second = await enroll(machine, join, body)
        assert certificate_in(first) == certificate_in(second), meaning
        after = (await counts_in(self.database_url)).since(before)
        assert after == Counts(1, 1, 1, 1), f"{meaning}: {after}"
        return left.certificates == 1


async def connect(machine: aiohttp.ClientSession, join: JoinString) -> None:
    async with machine.get(f"{loopback_url(join)}{CA_PATH}", server_hostname=SERVER_NAME) as answer:
        await answer.read()


async def enroll(machine: aiohttp.ClientSession, join: JoinString, body: bytes) -> tuple[int, bytes]:
    """Return status and body of the answer. Raises aiohttp.ClientError."""
    url = f"{loopback_url(join)}{ENROLL_PATH}"
    async with machine.post(url, data=body, headers=JSON, server_hostname=SERVER_NAME) as answer:
        return answer.status, await answer.read()


def certificate_in(body: bytes) -> str:
    return msgspec.json.decode(body, type=EnrollReply).client_cert_pem


async def races(site: Site, racers: int, rounds: int) -> str:
    """Race for a new one-use token each round."""
    seconds, statuses = [], Counter[int]()
    async with dashboard(site.hub.web_url, await site.hub.access_token(), {}) as person:
        for number in range(rounds):
            made = await person.ask("tokens:create")
            assert isinstance(made, TokensCreateReply)
            before = await counts_in(site.database_url)
            answered, took_seconds = await site.race(JoinString.parse(made.join_string))
            new = (await counts_in(site.database_url)).since(before)
            assert new == Counts(1, 1, 1, 1), f"round {number}: {new}"
            assert answered == {HTTPStatus.OK: 1, HTTPStatus.UNAUTHORIZED: racers - 1}, f"round {number}: {answered}"
            seconds.append(took_seconds)
            statuses += answered
    return (
        f"{rounds} times 1 certificate; answers {dict(statuses)}; all {racers} had theirs after "
        f"{statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
    )


async def kills(site: Site, points: Sequence[KillPoint]) -> str:
    join = JoinString.parse(await site.hub.join_string(len(points)))
    log = site.hub.folder.with_suffix(".log")
    committed = [
        point.meaning for point in points if await site.kill(point.meaning, killed_at(point, site.hub.pid, log), join)
    ]
    return (
        f"{len(points)} kills, uses = certificates after each, and asked again the machine has one certificate; "
        f"committed at: {', '.join(committed) or 'none'}"
    )


@asynccontextmanager
async def site_in(
    folder: Path, variables: Mapping[str, str], racers: int = RACERS, kind: type[Hub] = Hub
) -> AsyncIterator[Site]:
    """A hub with its administrator in `folder`, and nobody else yet."""
    hub = kind(folder / "hub", {**UNHURRIED, **variables})
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    url = variables.get("JTNT_DATABASE_URL", f"sqlite+aiosqlite:///{folder / 'hub' / 'hub.db'}")
    try:
        await hub.start_as_users_do()
        await hub.create_administrator()
        anchors = await trusted_anchors(JoinString.parse(await hub.join_string(1)))
        yield Site(hub, url, client_context(anchors), racers)
    finally:
        await hub.stop()


async def show(report: Report) -> None:
    """Show both lines on both databases."""
    with tempfile.TemporaryDirectory(prefix="jtnt-enrollment-") as name, running_server() as server:
        server.create(DATABASE)
        await _shown_on(report, "SQLite", Path(name) / "sqlite", {})
        url = server.url_of(DATABASE)
        await _shown_on(report, "PostgreSQL", Path(name) / "postgresql", {"JTNT_DATABASE_URL": url})


async def _shown_on(report: Report, engine: str, folder: Path, variables: Mapping[str, str]) -> None:
    points = KILL_POINTS[engine]
    async with site_in(folder, variables) as site:
        await report.show(
            f"{RACERS} race for a one-use token, {ROUNDS} times: one certificate each time; {engine}",
            lambda: races(site, RACERS, ROUNDS),
        )
        await report.show(
            f"hub killed at {len(points)} points of an enrollment: uses = certificates; {engine}",
            lambda: kills(site, points),
        )
