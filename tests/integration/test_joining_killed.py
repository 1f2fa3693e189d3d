"""A real hub, killed in the middle of an enrollment: what its tokens count is what it has issued."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from protocol.identity import JoinString
from scripts.proofs.trust.enrollment import Counts, Site, counts_in, site_in
from scripts.proofs.trust.system_calls import Counted, KillPoint, is_available

RACERS = 20

pytestmark = pytest.mark.skipif(not is_available(), reason="strace, which ends a process at a system call, is not here")


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site_in(tmp_path_factory.mktemp("killed") / "site", {}, RACERS) as running:
        yield running


@pytest.mark.parametrize(
    ("point", "is_committed"),
    [
        (KillPoint("between two statements", "write", 18, Counted.ANY_THREAD), False),
        (KillPoint("in the middle of the commit", "pwrite64", 12, Counted.ANY_THREAD), False),
        (KillPoint("after the commit, before the answer", "write", 1, Counted.ON_LOG), True),
    ],
    ids=lambda value: value.meaning if isinstance(value, KillPoint) else None,
)
async def test_uses_are_certificates_wherever_the_hub_is_killed(
    site: Site, point: KillPoint, is_committed: bool
) -> None:
    join = JoinString.parse(await site.hub.join_string(1))
    assert await site.kill(point, join) is is_committed


async def test_many_race_for_one_use_over_real_connections(site: Site) -> None:
    join, before = JoinString.parse(await site.hub.join_string(1)), await counts_in(site.database_url)
    answers, _ = await site.race(join)
    assert answers == {HTTPStatus.OK: 1, HTTPStatus.UNAUTHORIZED: RACERS - 1}
    assert (await counts_in(site.database_url)).since(before) == Counts(1, 1, 1, 1)
