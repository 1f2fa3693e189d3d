"""The keeper of the hub's keys: what it takes over, renews and tells."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub_server.pki.authority import Authority
from hub_server.pki.engine import Lifetimes
from hub_server.pki.listener import AgentsTls
from hub_server.pki.news import NEWS_NAME, ring
from hub_server.pki.worker import Keeper
from hub_server.storage.engine import Database
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.vault import Vault
from protocol.enumerations import AuthorityUse
from tests.authorities import VAULT, authority_on
from tests.clocks import FakeClock


class Told:
    """Notes which trust document and which TLS context others were told of."""

    def __init__(self, authority: Authority, tls: AgentsTls) -> None:
        self._authority = authority
        self._tls = tls
        self.versions: list[int] = []
        self.anchors: list[bool] = []

    def __call__(self) -> None:
        self.versions.append(self._authority.trust_version)
        self.anchors.append(len(self._tls.current().get_ca_certs()) == 2)


class House:
    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.tls = AgentsTls(authority, ["hub.example"])
        self.told = Told(authority, self.tls)
        self.keeper = Keeper(authority=authority, tls=self.tls, on_trust_changed=[self.told])


@pytest.fixture
async def house(database: Database, tmp_path: Path, clock: FakeClock) -> House:
    return House(await authority_on(database, tmp_path / "pki", clock=clock))


async def test_what_a_command_rotates_beside_a_running_hub_is_taken_over(
    house: House, database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    """Whoever is told finds the handshakes changed already: the next agent may come with a new certificate."""
    await house.keeper.tend()
    assert house.told.versions == []
    beside = await authority_on(database, tmp_path / "beside", clock=clock)
    await beside.rotate(AuthorityUse.AGENTS, actor="hub-cli")
    await house.keeper.tend()
    await house.keeper.tend()
    assert house.authority.trust == beside.trust
    assert house.told.versions == [2]
    assert house.told.anchors == [True]


async def test_what_is_due_is_rotated_and_told_once(house: House, clock: FakeClock) -> None:
    await house.keeper.tend()
    clock.advance(244 * 86400)
    await house.keeper.tend()
    await house.keeper.tend()
    assert house.told.versions == [2]
    assert house.authority.certificate_terms.issuer_sha256 in {
        view.id for view in house.authority.overview().authorities
    }


async def test_the_hubs_certificate_is_renewed_without_a_restart(house: House, clock: FakeClock) -> None:
    before = house.tls.current()
    clock.advance(59 * 86400)
    await house.keeper.tend()
    assert house.tls.current() is before
    clock.advance(2 * 86400)
    await house.keeper.tend()
    assert house.tls.current() is not before
    assert house.told.versions == []


async def test_the_next_ca_of_the_hub_is_shown_when_its_time_has_come(house: House, clock: FakeClock) -> None:
    await house.authority.rotate(AuthorityUse.SERVERS, actor="test")
    await house.keeper.tend()
    before = house.tls.current()
    clock.advance(7 * 86400 - 60)
    await house.keeper.tend()
    assert house.tls.current() is before
    clock.advance(60)
    await house.keeper.tend()
    assert house.tls.current() is not before


async def test_a_person_is_warned_once_of_each_key_when_the_root_is_offline(house: House, clock: FakeClock) -> None:
    await house.authority.take_root_offline(house.authority.root_key_pem(), actor="test")
    clock.advance(306 * 86400)
    with capture_logs() as logs:
        await house.keeper.tend()
        await house.keeper.tend()
    warnings = [record["advice"] for record in logs if record["log_level"] == "warning"]
    assert len(warnings) == 4
    assert all("--root-key FILE" in advice for advice in warnings)
    assert house.told.versions == []


async def test_with_the_secrets_key_gone_the_keys_in_memory_stay_in_use(
    database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    vault = Vault.from_keys(bytes(32))
    house = House(await authority_on(database, tmp_path / "pki", clock=clock, vault=vault))
    beside = await authority_on(database, tmp_path / "beside", clock=clock, vault=VAULT)
    await beside.rotate(AuthorityUse.AGENTS, actor="test")
    vault._take((bytes(31) + b"x",))
    with pytest.raises(KeysRefused, match="restore that key"):
        await house.keeper.tend()
    assert house.authority.trust_version == 1
    assert (await house.authority.sign_job(b"x")).key_id


async def test_a_fleet_of_short_lives_is_tended_at_its_pace(
    database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    quick = Lifetimes(
        agent_certificate=timedelta(seconds=30),
        server_certificate=timedelta(seconds=30),
        issuing=timedelta(seconds=90),
        signer=timedelta(seconds=90),
        overlap=timedelta(seconds=5),
    )
    house = House(await authority_on(database, tmp_path / "pki", clock=clock, lifetimes=quick))
    issuers = set()
    for _ in range(60):
        clock.advance(4)
        await house.keeper.tend()
        assert house.authority.issuing_expires_at > clock.now()
        issuers.add(house.authority.certificate_terms.issuer_sha256)
    assert len(issuers) == 5
    assert house.told.versions == sorted(set(house.told.versions))


async def test_the_keeper_says_that_keys_cannot_be_read_and_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, rounds = asyncio.Event(), 0

    async def refused_once() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise KeysRefused("restore that key from its backup")
        again.set()
        return False

    monkeypatch.setattr(house.authority, "refresh", refused_once)
    keeper = Keeper(authority=house.authority, tls=house.tls, round_seconds=0)
    with capture_logs() as logs:
        running = asyncio.create_task(keeper.run())
        async with asyncio.timeout(10):
            await again.wait()
        running.cancel()
    assert [record["why"] for record in logs if record["log_level"] == "error"] == ["restore that key from its backup"]


async def test_news_of_a_command_is_taken_over_long_before_the_next_round(
    house: House, database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    news, told = tmp_path / NEWS_NAME, asyncio.Event()
    keeper = Keeper(
        authority=house.authority, tls=house.tls, round_seconds=3600, on_trust_changed=[told.set], hears=news
    )
    running = asyncio.create_task(keeper.run())
    beside = await authority_on(database, tmp_path / "beside", clock=clock)
    await asyncio.sleep(0)  # the first round has begun
    await beside.rotate(AuthorityUse.JOBS, actor="hub-cli", revoke=True)
    ring(news)
    async with asyncio.timeout(10):
        await told.wait()
    running.cancel()
    assert (await house.authority.sign_job(b"x")).key_id == (await beside.sign_job(b"x")).key_id
