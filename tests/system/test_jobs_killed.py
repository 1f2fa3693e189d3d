"""The shorter form of what `prove jobs` shows at length: jobs of real processes that are killed around them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from scripts.proofs.jobs import crashes, injection
from scripts.proofs.jobs.site import Site, job_site
from scripts.proofs.trust.system_calls import NoStrace


@pytest.fixture(scope="module")
async def site() -> AsyncIterator[Site]:
    async with job_site() as running:
        yield running


async def test_an_order_sent_to_an_agent_that_dies_is_sent_again_and_run_once(site: Site) -> None:
    assert "run once" in await crashes.sent_and_not_delivered(site)


async def test_a_daemon_that_is_killed_finds_the_true_result_of_the_job_that_ran_on(site: Site) -> None:
    assert "exit code 7" in await crashes.daemon_killed_and_child_runs_on(site)


async def test_a_result_is_stored_once_though_the_hub_is_killed_when_it_comes(site: Site) -> None:
    try:
        said = await crashes.result_and_hub_killed(site, crashes.AROUND_A_COMMIT[:1])
    except NoStrace as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    assert "exit code 5" in said


async def test_a_cancel_that_races_the_end_leaves_one_terminal_state(site: Site) -> None:
    assert await crashes.cancel_races_the_end(site, 6)


async def test_two_hubs_that_send_the_same_job_have_one_run(site: Site) -> None:
    assert "one run" in await crashes.two_hubs_send_the_same_job(site)


async def test_text_with_shell_characters_reaches_programs_as_it_is(site: Site) -> None:
    assert "arrived as they are" in await injection.arguments_and_environment(site, every=5)
