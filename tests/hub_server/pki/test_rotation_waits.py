"""What a rotation, or the beginning of an authority, waits for keeps nobody from writing."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col

from hub_server.errors import Unavailable
from hub_server.pki.engine import ROTATED
from hub_server.pki.tables import AuthorityRow
from hub_server.pki.trust import document_of
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


async def test_without_the_signer_every_other_key_is_exchanged_in_time(
    database: Database, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = await authority_on(database, tmp_path / "pki", clock=clock)

    async def away(_self: JobKeysHere) -> tuple[bytes, bytes]:
        raise Unavailable("the signer is not there")

    def counts() -> Counter[AuthorityUse]:
        return Counter(key.use for key in authority.overview().authorities if key.use in ROTATED)

    before = counts()
    clock.advance(250 * 86400)
    with monkeypatch.context() as patched:
        patched.setattr(JobKeysHere, "make", away)
        assert await authority.tend()
        assert counts() - before == Counter(set(ROTATED) - {AuthorityUse.JOBS})
        assert not await authority.tend()
    assert await authority.tend()
    assert counts() - before == Counter(ROTATED)


async def test_nobody_who_writes_waits_for_the_signer_of_an_authority_that_begins(
    database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    class WritingKeys(JobKeysHere):
        async def make(self) -> tuple[bytes, bytes]:
            async with asyncio.timeout(30), database.write(EVERY_ORGANISATION):
                return await super().make()

    keys = WritingKeys(tmp_path / "signer.key")
    authority = await authority_on(database, tmp_path / "pki", clock=clock, job_keys=keys)
    assert (await authority.sign_job(b"x")).key_id == document_of(authority.trust).signers[0].key_id
