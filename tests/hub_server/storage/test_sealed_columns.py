"""The exchange of the secrets key, on both databases."""

from pathlib import Path

import pytest
from sqlalchemy import LargeBinary, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel, col

from hub_server.access.tables import UserRow
from hub_server.config import SecretsSettings
from hub_server.storage import schema, sealed_columns
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.sealed_columns import SEALED, exchange_key, reseal
from hub_server.storage.vault import Vault, VaultRefused
from tests.clocks import FakeClock

NAMES = ("u-1", "u-2", "u-3")


def opened(folder: Path) -> Vault:
    return Vault.open(folder, SecretsSettings(), {})


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return opened(tmp_path)


@pytest.fixture
async def users(database: Database, clock: FakeClock, vault: Vault) -> Database:
    async with database.write(EVERY_ORGANISATION) as connection:
        for name in NAMES:
            await connection.execute(
                insert(UserRow).values(
                    id=name, username=name, password_hash="", created_at=clock.now(), totp_sealed=sealed(vault, name)
                )
            )
    return database


def sealed(vault: Vault, name: str) -> bytes:
    return vault.seal(name.encode() * 4, table="users", column="totp_sealed", row=name)


async def seeds(database: Database, vault: Vault) -> dict[str, bytes]:
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = (await connection.execute(select(col(UserRow.id), col(UserRow.totp_sealed)))).all()
    return {row.id: vault.unseal(row.totp_sealed, table="users", column="totp_sealed", row=row.id) for row in rows}


ALL = {name: name.encode() * 4 for name in NAMES}


def test_every_sealed_column_is_known() -> None:
    assert schema.__all__
    found = {
        (table.name, column.name)
        for table in SQLModel.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary) and "sealed" in column.name
    }
    assert found == {(table, column) for table, column, _ in SEALED}


async def test_afterwards_only_the_new_key_is_needed(users: Database, vault: Vault, tmp_path: Path) -> None:
    assert await exchange_key(users, vault) == len(NAMES)
    after = opened(tmp_path)
    assert after.key_count == 1
    assert await seeds(users, after) == ALL


async def test_a_crash_at_any_step_leaves_every_secret_readable(
    users: Database, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sealed_columns._reseal_column
    for crash_at in range(1, 5):
        calls = 0

        async def dies(connection: AsyncConnection, vault: Vault, *names: str, crash_at: int = crash_at) -> int:
            nonlocal calls
            calls += 1
            if calls == crash_at:
                raise ZeroDivisionError
            return await one(connection, vault, *names)

        monkeypatch.setattr(sealed_columns, "_reseal_column", dies)
        with pytest.raises(ZeroDivisionError):
            await exchange_key(users, opened(tmp_path))
        assert await seeds(users, opened(tmp_path)) == ALL
    monkeypatch.undo()
    await exchange_key(users, opened(tmp_path))
    assert opened(tmp_path).key_count == 1
    assert await seeds(users, opened(tmp_path)) == ALL


async def test_a_secret_that_cannot_be_opened_keeps_every_key(users: Database, vault: Vault, tmp_path: Path) -> None:
    async with users.write(EVERY_ORGANISATION) as connection:
        foreign = sealed(Vault.generate(), "u-2")
        await connection.execute(update(UserRow).where(col(UserRow.id) == "u-2").values(totp_sealed=foreign))
    before = vault.key_count
    with pytest.raises(VaultRefused, match="u-2"):
        await exchange_key(users, vault)
    assert opened(tmp_path).key_count == before + 1


async def test_what_a_running_hub_sealed_meanwhile_is_not_lost(
    users: Database, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that sealed with the old key and commits after the old key is gone from its file."""
    late = sealed(vault, "u-3")
    drop = Vault.drop_old_keys

    def drop_and_commit_late(self: Vault) -> None:
        drop(self)
        pending.append(late)

    pending: list[bytes] = []
    monkeypatch.setattr(Vault, "drop_old_keys", drop_and_commit_late)
    real = sealed_columns.reseal

    async def with_the_late_commit(database: Database, vault: Vault) -> int:
        if pending:
            async with database.write(EVERY_ORGANISATION) as connection:
                value = pending.pop()
                await connection.execute(update(UserRow).where(col(UserRow.id) == "u-3").values(totp_sealed=value))
        return await real(database, vault)

    monkeypatch.setattr(sealed_columns, "reseal", with_the_late_commit)
    await exchange_key(users, vault)
    monkeypatch.undo()
    assert await seeds(users, opened(tmp_path)) == ALL
    assert await reseal(users, opened(tmp_path)) == 0
