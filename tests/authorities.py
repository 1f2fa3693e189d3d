"""Authorities for tests, on a database that is given or on one of their own."""

import asyncio
from pathlib import Path
from typing import Final

from hub_server.clock import Clock, SystemClock
from hub_server.pki.authority import Authority
from hub_server.pki.engine import Lifetimes
from hub_server.pki.ports import JobKeys
from hub_server.storage.engine import Database
from hub_server.storage.vault import Vault
from tests.job_keys import JobKeysHere
from tests.migrated import empty_database

VAULT: Final = Vault.from_keys(bytes(32))
"""Every test's: what one opening sealed, the next one opens."""


async def authority_on(
    database: Database,
    folder: Path,
    *,
    clock: Clock,
    lifetimes: Lifetimes | None = None,
    vault: Vault = VAULT,
    trust_domain: str = "jtnt",
    job_keys: JobKeys | None = None,
) -> Authority:
    """Return the authority of a migrated database. `folder`: for its files, as `<data_dir>/pki`.

    Every one beside another has the same signer's key, as hubs on one database have.
    """
    await asyncio.to_thread(folder.parent.mkdir, parents=True, exist_ok=True)
    return await Authority.open_or_create(
        database,
        vault,
        job_keys=job_keys or JobKeysHere(folder.parent / "signer.key"),
        directory=folder,
        trust_domain=trust_domain,
        clock=clock,
        lifetimes=lifetimes,
    )


async def authority_in(folder: Path, *, clock: Clock | None = None) -> Authority:
    """Return an authority on a SQLite database of its own in `folder`: it issues and signs, and never changes."""
    await empty_database(folder / "hub.db")
    database = Database(f"sqlite+aiosqlite:///{folder / 'hub.db'}")
    try:
        return await authority_on(database, folder / "pki", clock=clock or SystemClock())
    finally:
        await database.close()
