"""The schema on both engines: what the tables say is what the migrations make."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text
from sqlmodel import col

from hub_server.access.tables import OrganisationRow, RefreshTokenRow
from hub_server.audit.tables import AuditHeadRow, AuditRow
from hub_server.commands.model import open_command_of
from hub_server.commands.open_store import OpenStore
from hub_server.commands.store import CommandStore
from hub_server.commands.tables import CommandRow
from hub_server.commands.views import says_the_same
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.migrate import migrate
from hub_server.storage.revision import newest_revision
from hub_server.storage.upgrade import with_alembic
from protocol.enumerations import Action, CommandStatus, OutputStream
from protocol.envelope import JobEnvelope
from tests.clocks import FakeClock

START = """
import asyncio, sys
from hub_server import app
from hub_server.cli import main
from hub_server.storage.engine import Database

async def start():
    database = Database(f"sqlite+aiosqlite:///{sys.argv[1]}/hub.db")
    await app.migrate(database)
    await database.close()

asyncio.run(start())
print(*(name for name in ("alembic",) if name in sys.modules))
"""

ROWS_OF_THE_FIRST_RELEASE = """
insert into organisations (id, name, created_at) values ('o', 'default', '2026-11-22 12:00:00');
insert into users (id, username, password_hash, created_at) values ('u', 'ada', 'x', '2026-11-22 12:00:00');
insert into memberships (user_id, organisation_id, role) values ('u', 'o', 'viewer');
insert into refresh_tokens (id, organisation_id, user_id, family_id, secret_sha256, created_at, expires_at)
    values ('r', 'o', 'u', 'f', 'x', '2026-11-22 12:00:00', '2026-11-23 12:00:00');
insert into audit_entries (organisation_id, at, actor, action, target, detail)
    values ('o', '2026-11-22 12:00:00', 'hub-cli', 'users:create', 'user:u', '{"username": "ada", "role": "viewer"}');
insert into audit_entries (organisation_id, at, actor, action, target, detail)
    values ('o', '2026-11-22 12:00:01', 'user:ada', 'auth:sign-in', 'user:u', '{}');
insert into agents (id, organisation_id, hostname, name, site, tags, os_type, os_version, arch, cpu_count,
        memory_total_bytes, ip_addresses, agent_version, boot_id, config, thresholds, applied_config_hash, enrolled_at)
    values ('a', 'o', 'db-1', 'db-1', '', '[]', 'linux', '', '', 1,
        1, '[]', '1', '', '{}', '{}', '', '2026-11-22 12:00:00');
insert into agent_commands (id, organisation_id, agent_id, command_type, command_data, signatures, status, result,
        truncated, idempotency_key, created_at, created_by, expires_at, cancel_requested, version, payload)
    values ('c', 'o', 'a', 'exec', '{"argv": ["id"]}', '[]', 'SENT', '',
        false, 'k', '2026-11-22 12:00:00', 'user:ada', '2026-11-22 12:15:00', false, 2,
        '{"kind":"jtnt.job.v1","jobId":"c","organisationId":"o","agentId":"a","action":"exec","argv":["id"],"issuedAt":1,\
"expiresAt":2,"timeoutSec":60,"environment":{},"workingDirectory":null,"runAs":null,"scriptSha256":null,\
"outputLimitBytes":1048576}');
insert into command_output (command_id, stream, start_offset, organisation_id, data)
    values ('c', 'stdout', 0, 'o', 'uid');
"""


async def test_migrations_make_exactly_the_tables(database: Database) -> None:
    await with_alembic(database, command.check)


def test_the_newest_revision_is_the_end_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", "hub_server.storage:migrations")
    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()


def test_a_start_that_has_nothing_to_bring_up_to_date_loads_no_alembic(tmp_path: Path) -> None:
    def start() -> list[str]:
        said = subprocess.run([sys.executable, "-c", START, str(tmp_path)], check=True, capture_output=True, timeout=60)
        return said.stdout.decode().split()

    assert start() == ["alembic"]
    assert start() == []


async def test_two_hubs_may_migrate_at_once(bare: Database, bare_url: str) -> None:
    other = Database(bare_url)
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(migrate(bare), migrate(other))
    finally:
        await other.close()
    await with_alembic(bare, command.check)


async def test_a_database_of_the_first_release_keeps_its_rows(bare: Database) -> None:
    await with_alembic(bare, command.upgrade, "0001")
    async with bare.write(EVERY_ORGANISATION) as connection:
        for statement in ROWS_OF_THE_FIRST_RELEASE.split(";\n")[:-1]:
            await connection.exec_driver_sql(statement)
    await migrate(bare)
    await with_alembic(bare, command.check)
    async with bare.read(EVERY_ORGANISATION) as connection:
        entries = (await connection.execute(select(AuditRow).order_by(col(AuditRow.number)))).all()
        assert [(row.hub_id, row.number, row.action, row.detail) for row in entries] == [
            ("before", 1, "users:create", '{"role":"viewer","username":"ada"}'),
            ("before", 2, "auth:sign-in", "{}"),
        ]
        head = (await connection.execute(select(AuditHeadRow))).one()
        assert (head.hub_id, head.number, head.hash) == ("before", 2, entries[1].hash)
        refresh = (await connection.execute(select(RefreshTokenRow))).one()
        assert refresh.signed_in_at == refresh.created_at
        assert (await connection.execute(select(col(AgentRow.trust)))).scalars().all() == ["trusted"]


async def test_a_command_that_the_first_release_sent_goes_on(bare: Database) -> None:
    await with_alembic(bare, command.upgrade, "0001")
    async with bare.write(EVERY_ORGANISATION) as connection:
        for statement in ROWS_OF_THE_FIRST_RELEASE.split(";\n")[:-1]:
            await connection.exec_driver_sql(statement)
    await migrate(bare)
    store = CommandStore()
    async with bare.read("o") as connection:
        sent = await connection.run_sync(store.find_by_key, "o", "k")
        assert sent is not None
        assert await connection.run_sync(OpenStore().load) == [open_command_of(sent)]
        assert await connection.scalar(select(col(CommandRow.changed_at))) == sent.created_at
        assert (await connection.run_sync(store.output_sizes, "o", ["c"]))["c"][OutputStream.STDOUT] == 3
    asked = JobEnvelope(
        job_id="another",
        organisation_id="o",
        agent_id="a",
        action=Action.EXEC,
        argv=["id"],
        issued_at=1,
        expires_at=2,
        timeout_sec=60,
    )
    assert (sent.status, sent.timeout_sec, sent.output_bytes) == (CommandStatus.SENT, None, {})
    assert says_the_same(sent, asked)


async def test_a_write_that_raises_leaves_nothing(database: Database, clock: FakeClock) -> None:
    async def write_and_fail() -> None:
        async with database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(insert(OrganisationRow).values(id="o", name="n", created_at=clock.now()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    async with database.read(EVERY_ORGANISATION) as connection:
        assert (await connection.execute(select(col(OrganisationRow.id)))).all() == []


async def test_times_come_back_aware_and_in_utc(database: Database, clock: FakeClock) -> None:
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(insert(OrganisationRow).values(id="o", name="n", created_at=clock.now()))
    async with database.read(EVERY_ORGANISATION) as connection:
        stored = (await connection.execute(select(col(OrganisationRow.created_at)))).scalar_one()
    assert stored == clock.now()
    assert stored.utcoffset() is not None


async def test_many_writers_queue_instead_of_failing(database: Database, clock: FakeClock) -> None:
    async def add(number: int) -> None:
        async with database.write(EVERY_ORGANISATION) as connection:
            row = {"id": str(number), "name": str(number), "created_at": clock.now()}
            await connection.execute(insert(OrganisationRow).values(**row))

    async with asyncio.timeout(30):
        await asyncio.gather(*(add(number) for number in range(30)))
    async with database.read(EVERY_ORGANISATION) as connection:
        assert (await connection.execute(text("select count(*) from organisations"))).scalar_one() == 30


async def test_sqlite_syncs_every_commit(database: Database) -> None:
    if not database.is_sqlite:
        return
    async with database.write(EVERY_ORGANISATION) as connection:
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one() == 2
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one() == "wal"


@pytest.mark.skipif(os.name != "posix", reason="Windows guards the folder")
async def test_nobody_else_on_the_machine_reads_the_database(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    path.touch(0o644)  # as an earlier version made it, in a folder that an administrator made
    database = Database(f"sqlite+aiosqlite:///{path}")
    try:
        await migrate(database)
        assert modes_in(tmp_path) == dict.fromkeys(("hub.db", "hub.db-wal", "hub.db-shm"), 0o600)
    finally:
        await database.close()


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
