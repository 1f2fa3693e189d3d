"""Every operation by every role about its own organisation and another: the answer is written down and holds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from protocol.enumerations import Role
from protocol.operations import OPERATIONS
from tests.integration.hub import RunningHub
from tests.integration.matrix import World, world, wrong
from tests.integration.permissions import MATRIX


@pytest.fixture(scope="module")
async def two_organisations(either_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(either_hub, tmp_path_factory.mktemp("matrix")) as built:
        yield built


def test_every_operation_has_its_row() -> None:
    assert set(MATRIX) == set(OPERATIONS)


@pytest.mark.parametrize("role", Role)
async def test_what_a_role_may_not_do_is_refused_and_changes_nothing(two_organisations: World, role: Role) -> None:
    cells, changed = await two_organisations.forbidden(role)
    assert not wrong(cells)
    assert not changed


@pytest.mark.parametrize("role", Role)
async def test_what_a_role_may_do_is_done_in_its_own_organisation(two_organisations: World, role: Role) -> None:
    assert not wrong(await two_organisations.allowed(role))
