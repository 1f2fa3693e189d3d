"""The audit: 1,000 mutations on each engine are found and named; how fast it is verified, and what an entry costs."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.record import record
from hub_server.audit.service import AuditService
from hub_server.audit.verification import verify
from hub_server.storage.engine import Database
from hub_server.storage.migrate import migrate
from scripts.proofs.report import Report
from tests.clocks import FakeClock
from tests.hub_server.audit.builders import Signer, add_chains, add_entries_at_once
from tests.hub_server.audit.mutations import assert_found
from tests.servers.postgres import PostgresServer, running_server

MUTATIONS: Final = 1000
ENTRIES: Final = 200_000
MEMORY_GROWTH_MAX_MIB: Final = 64
WRITERS: Final = 200
TRANSACTIONS: Final = 500


async def show(report: Report) -> None:
    """Show every line of the audit, on a database of each engine."""
    with _servers() as (folder, server):
        for engine in ("sqlite", "postgresql"):
            for words, step in STEPS.items():
                await report.show(f"audit, {engine}: {words}", partial(step, engine, folder, server))


@contextmanager
def _servers() -> Iterator[tuple[Path, PostgresServer]]:
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-audit-") as folder, running_server() as server:
        yield Path(folder), server


@asynccontextmanager
async def _database(engine: str, name: str, folder: Path, server: PostgresServer) -> AsyncIterator[Database]:
    if engine == "postgresql":
        await asyncio.to_thread(server.create, name)
    url = server.url_of(name) if engine == "postgresql" else f"sqlite+aiosqlite:///{folder / name}.db"
    database = Database(url)
    try:
        await migrate(database)
        yield database
    finally:
        await database.close()


async def _mutations(engine: str, folder: Path, server: PostgresServer) -> str:
    async with _database(engine, "mutations", folder, server) as database:
        signer = Signer()
        witnesses = await add_chains(database, FakeClock(), signer)
        for seed in range(MUTATIONS):
            await assert_found(database, signer, witnesses, seed)
        assert (await verify(database, signer.keys, witnesses)).faults == []
    return f"{MUTATIONS} of {MUTATIONS} found"


async def _writers(engine: str, folder: Path, server: PostgresServer) -> str:
    async with _database(engine, "writers", folder, server) as database:

        async def write(number: int) -> None:
            async with database.write("o") as connection:
                await _deed(connection)
                if number % 5 == 0:
                    raise ZeroDivisionError

        async with asyncio.timeout(120):
            ends = await asyncio.gather(*(write(number) for number in range(WRITERS)), return_exceptions=True)
        verdict = await verify(database, {})
        assert verdict.faults == []
        assert verdict.entries == ends.count(None) == WRITERS * 4 // 5
    return f"{verdict.entries} entries, {WRITERS - verdict.entries} rolled back"


async def _speed(engine: str, folder: Path, server: PostgresServer) -> str:
    async with _database(engine, "speed", folder, server) as database:
        await add_entries_at_once(database, FakeClock(), ENTRIES)
        signer = Signer()
        await AuditService(database=database, clock=FakeClock(), signer=signer).checkpoint()
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.monotonic()
        verdict = await verify(database, signer.keys)
        seconds = time.monotonic() - started
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
        assert (verdict.entries, verdict.checkpoints, verdict.faults) == (ENTRIES, 1, [])
        assert grown_mib < MEMORY_GROWTH_MAX_MIB, f"memory grew by {grown_mib:.0f} MiB"
    return f"{ENTRIES / seconds:,.0f} rows/s, memory +{grown_mib:.0f} MiB"


async def _cost(engine: str, folder: Path, server: PostgresServer) -> str:
    async with _database(engine, "cost", folder, server) as database:

        async def transactions(entries: int) -> float:
            started = time.process_time()
            for _ in range(TRANSACTIONS):
                async with database.write("o") as connection:
                    for _ in range(entries):
                        await _deed(connection)
            return (time.process_time() - started) / TRANSACTIONS * 1e6

        await transactions(1)
        with_one, with_two = await transactions(1), await transactions(2)
    return f"{with_two - with_one:,.0f} µs of this process"


async def _deed(connection: AsyncConnection) -> None:
    await record(
        connection,
        organisation_id="o",
        at=FakeClock().now(),
        actor="user:ada",
        action="commands:create",
        target="command:1",
        detail={"argv": ["id"]},
    )


STEPS: Final = {
    f"{MUTATIONS:,} mutations of its tables, all found, first bad row named": _mutations,
    f"{WRITERS} writers at once, some rolled back: one chain without a gap": _writers,
    f"{ENTRIES:,} entries verified in bounded memory": _speed,
    "what an entry costs its transaction": _cost,
}
