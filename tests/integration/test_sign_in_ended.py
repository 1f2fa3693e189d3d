"""A sign-in that ends takes its open sockets with it, at once and not when its token runs out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Update, select, update
from sqlmodel import col

from hub_server.access.tables import MembershipRow, UserRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enumerations import Role
from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub
from tests.integration.person import watching

OWN: Final = {"X-Requested-With": "jtnt"}
CUT_DEADLINE_SECONDS: Final = 30.0


async def test_a_sign_out_closes_the_open_socket_of_that_sign_in_alone(hub: RunningHub, token: str) -> None:
    async with hub.people() as browser, watching(hub, token) as other:
        async with browser.post(
            "/api/v1/auth/sign-in", json={"username": ADMINISTRATOR, "password": PASSWORD}
        ) as answer:
            access_token = (await answer.json())["accessToken"]
        async with watching(hub, access_token) as person:
            async with browser.post("/api/v1/auth/sign-out", headers=OWN) as answer:
                assert answer.status == 204
            async with asyncio.timeout(CUT_DEADLINE_SECONDS):
                await person.gone.wait()
        assert (await other.ask("agents:list"))["ok"]


async def test_a_lock_closes_the_persons_socket(hub: RunningHub) -> None:
    await hub.add_user("locked", Role.TECHNICIAN)
    async with watching(hub, await hub.sign_in("locked")) as person:
        await changed(hub, update(UserRow).where(col(UserRow.username) == "locked").values(locked_at=datetime.now(UTC)))
        async with asyncio.timeout(CUT_DEADLINE_SECONDS):
            await person.gone.wait()


async def test_another_role_closes_the_persons_socket(hub: RunningHub) -> None:
    await hub.add_user("demoted", Role.TECHNICIAN)
    async with watching(hub, await hub.sign_in("demoted")) as person:
        user = select(col(UserRow.id)).where(col(UserRow.username) == "demoted").scalar_subquery()
        demotion = update(MembershipRow).where(col(MembershipRow.user_id) == user)
        await changed(hub, demotion.values(role=Role.VIEWER.value))
        async with asyncio.timeout(CUT_DEADLINE_SECONDS):
            await person.gone.wait()


async def changed(hub: RunningHub, statement: Update) -> None:
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(statement)
