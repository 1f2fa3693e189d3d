"""A hub that others reach: who may run commands sets up a second factor before anything else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from protocol.enumerations import Role
from protocol.operations import OPERATIONS
from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub, running_hub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.person import Json, watching
from tests.integration.test_operations_refused import minimal

SIGN_IN = "/api/v1/auth/sign-in"
REFRESH = "/api/v1/auth/refresh"
OWN = {"X-Requested-With": "jtnt"}


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """Demands a second factor, and keeps to the pace of operations that a hub has by default."""
    access = {"second_factor": "always", "operations_per_second": 20, "operations_at_once": 100}
    async with running_hub(tmp_path_factory.mktemp("strict"), access=access) as running:
        yield running


async def signed_in(hub: RunningHub, username: str, **further: str) -> tuple[int, Json]:
    async with (
        hub.people() as session,
        session.post(SIGN_IN, json={"username": username, "password": PASSWORD, **further}) as answer,
    ):
        return answer.status, await answer.json()


async def test_an_administrator_sets_up_a_second_factor_and_goes_on_without_a_new_password(strict: RunningHub) -> None:
    async with strict.people() as browser:
        async with browser.post(SIGN_IN, json={"username": ADMINISTRATOR, "password": PASSWORD}) as answer:
            first = await answer.json()
        assert first["secondFactorNeeded"]
        async with watching(strict, first["accessToken"]) as person:
            for operation in OPERATIONS:
                if not operation.startswith(("account:", "roles:", "auth:")):
                    error = (await person.ask(operation, minimal(operation)))["error"]
                    assert error["code"] in {"forbidden", "invalid_request"}, operation
            account = await person.do("account:get")
            assert (account["permissions"], account["secondFactorNeeded"]) == (["self"], True)
            assert not person.inbox.held()
            uri = (await person.do("account:begin-totp", password=PASSWORD))["uri"]
            phone = pyotp.parse_uri(uri)
            assert isinstance(phone, pyotp.TOTP)
            codes = (await person.do("account:confirm-totp", code=phone.now()))["recoveryCodes"]
            assert (await person.ask("agents:list"))["error"]["code"] == "forbidden"
            async with browser.post(REFRESH, headers=OWN) as answer:
                second = await answer.json()
            assert not second["secondFactorNeeded"]
            await person.do("auth:refresh", token=second["accessToken"])
            assert (await person.ask("agents:list"))["ok"]
            await person.take("agents:status")
    status, refused = await signed_in(strict, ADMINISTRATOR)
    assert (status, refused["error"]["code"]) == (401, "otp_required")
    status, refused = await signed_in(strict, ADMINISTRATOR, otp="000000")
    assert (status, refused["error"]["code"]) == (401, "unauthenticated")
    status, taken = await signed_in(strict, ADMINISTRATOR, otp=codes[0])
    assert (status, taken["secondFactorNeeded"]) == (200, False)
    secret = parse_qs(urlsplit(uri).query)["secret"][0].encode()
    for path in strict.folder.glob("hub.db*"):
        assert secret not in path.read_bytes()


async def test_operations_of_one_person_keep_a_pace_and_those_of_others_and_of_the_feed_do_not_suffer(
    strict: RunningHub,
) -> None:
    for name in ("hasty", "patient"):
        await strict.add_user(name, Role.VIEWER)
    hasty, patient = [(await signed_in(strict, name))[1]["accessToken"] for name in ("hasty", "patient")]
    async with (
        watching(strict, hasty) as someone,
        watching(strict, hasty) as other_tab,
        watching(strict, patient) as other,
    ):
        done = 0
        while (reply := await (someone, other_tab)[done % 2].ask("roles:list"))["ok"]:
            done += 1
            assert done < 1000
        assert done >= 100
        assert (reply["error"]["code"], reply["error"]["retryAfterSec"]) == ("rate_limited", 1)
        assert (await other_tab.ask("roles:list"))["error"]["code"] == "rate_limited"
        assert (await other.ask("roles:list"))["ok"]
        for _ in range(100):
            assert (await someone.ask("feed:ack", version=0))["ok"]
        tries = 0
        while not (await someone.ask("roles:list"))["ok"]:
            tries += 1
            assert tries < DEADLINE_SECONDS * 1000
