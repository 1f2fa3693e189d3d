"""Every secret in the database sealed anew, when the secrets key is exchanged."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnClause, column, select, table, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.vault import Vault

SEALED: Final = (("authorities", "sealed_key", "id"), ("users", "totp_sealed", "id"))
"""(table, column, key column). The key is the row's name to the vault."""
ROUNDS_MAX: Final = 10


async def reseal(database: Database, vault: Vault) -> int:
    """Seal with the newest key what an older one sealed, in one transaction; return how many there were.

    Raises VaultRefused when a secret cannot be opened; nothing is changed then.
    """
    count = 0
    async with database.write(EVERY_ORGANISATION) as connection:
        for names in SEALED:
            count += await _reseal_column(connection, vault, *names)
    return count


async def exchange_key(database: Database, vault: Vault) -> int:
    """Put a new key in the place of the old ones and return how many secrets were sealed anew.

    Both keys open until the last secret is sealed by the new one; a run that was cut short is finished by the next.
    Raises VaultRefused; then every key that sealed anything is still there.
    """
    if vault.key_count == 1:
        vault.add_key()
    count = await _until_none_is_old(database, vault)
    vault.drop_old_keys()
    # A hub that runs beside may have sealed with the old key in a transaction that was open meanwhile.
    return count + await _until_none_is_old(database, vault)


async def _until_none_is_old(database: Database, vault: Vault) -> int:
    count = 0
    for _ in range(ROUNDS_MAX):
        resealed = await reseal(database, vault)
        count += resealed
        if resealed == 0:
            break
    return count


async def _reseal_column(
    connection: AsyncConnection, vault: Vault, table_name: str, column_name: str, key_name: str
) -> int:
    key: ColumnClause[str] = column(key_name)
    sealed: ColumnClause[bytes] = column(column_name)
    rows = table(table_name, key, sealed)
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"lock table {table_name} in share row exclusive mode"))
    found = (await connection.execute(select(key, sealed).select_from(rows).where(sealed.is_not(None)))).all()
    old = [(row_id, value) for row_id, value in found if vault.is_ours(value) and not vault.is_fresh(value)]
    for row_id, value in old:
        plaintext = vault.unseal(value, table=table_name, column=column_name, row=row_id)
        fresh = vault.seal(plaintext, table=table_name, column=column_name, row=row_id)
        await connection.execute(update(rows).where(key == row_id).values({column_name: fresh}))
    return len(old)
