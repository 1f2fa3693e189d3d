"""What a rotation waits for keeps nobody from writing."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col

from hub_server.pki.tables import AuthorityRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AuthorityUse
from tests.authorities import authority_on
from tests.clocks import FakeClock
from tests.job_keys import JobKeysHere


@pytest.mark.parametrize("by_the_clock", [True, False])
async def test_others_write_while_the_signer_makes_its_key(
    database: Database, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_the_clock: bool
) -> None:
    authority = await authority_on(database, tmp_path / "pki", clock=clock)
    written: list[bool] = []
    make = JobKeysHere.make

    async def slowly(self: JobKeysHere) -> tuple[bytes, bytes]:
        async with asyncio.timeout(10), database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(update(AuthorityRow).values(retired_at=col(AuthorityRow.retired_at)))
        written.append(True)
        return await make(self)

    monkeypatch.setattr(JobKeysHere, "make", slowly)
    clock.advance(250 * 86400)
    await (authority.tend() if by_the_clock else authority.rotate(AuthorityUse.JOBS, actor="test"))
    assert written
    assert sum(key.use is AuthorityUse.JOBS for key in authority.overview().authorities) == 2
