"""Agents of an organisation: registered, described, changed by people, deleted; on both databases."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.errors import Forbidden, NotFound
from hub_server.events import AgentChanged, AgentDeleted, Deliver, DomainEvent, SessionEndRequested
from hub_server.fleet.service import FleetService, Purge
from hub_server.fleet.store import FleetStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.desired import CertificateTerms
from protocol.enumerations import DesiredName, Role
from protocol.envelope import SignedTrust
from protocol.frames import Desired, StateHashes, SystemInformation
from protocol.operations import AgentConfigInput, AgentsDelete, AgentsUpdate, Thresholds
from tests.clocks import FakeClock

SYSINFO = SystemInformation(hostname="web-01", os="linux", os_version="Debian 12", arch="x86_64", cpu_count=2)


class Anchored:
    """What agents are told to trust; a rotation is one assignment."""

    def __init__(self) -> None:
        self.trust = SignedTrust(document="", signatures=[])
        self.certificate_terms = CertificateTerms(issuer_sha256="aa")


class Fleet:
    """A fleet service with what a test needs beside it."""

    def __init__(self, database: Database, bus: InProcessBus, clock: FakeClock, purges: Sequence[Purge] = ()) -> None:
        self.database = database
        self.anchor = Anchored()
        self.service = FleetService(
            database=database,
            bus=bus,
            clock=clock,
            store=FleetStore(),
            anchor=self.anchor,
            purges=purges,
        )

    async def with_agent(self, organisation_id: str) -> str:
        async with self.database.write(EVERY_ORGANISATION) as connection:
            agent_id = await self.service.register(
                connection,
                organisation_id=organisation_id,
                hostname="web-01",
                sysinfo=SYSINFO,
                agent_version="1",
                boot_id="b",
                site="Basel",
                tags=["web"],
            )
        await self.service.reload(organisation_id, agent_id)
        return agent_id


@pytest.fixture
def fleet(database: Database, bus: InProcessBus, clock: FakeClock) -> Fleet:
    return Fleet(database, bus, clock)


def principal(organisation_id: str, role: Role = Role.ORG_ADMIN) -> Principal:
    return Principal(user_id="u", username="ada", organisation_id=organisation_id, role=role)


async def test_a_registered_agent_is_found_again_after_a_restart(
    fleet: Fleet, organisation_id: str, database: Database, bus: InProcessBus, clock: FakeClock
) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    restarted = Fleet(database, bus, clock).service
    await restarted.load()
    agent = restarted.get(organisation_id, agent_id)
    assert (agent.hostname, agent.name, agent.site, agent.tags, agent.os_version) == (
        "web-01",
        "web-01",
        "Basel",
        ["web"],
        "Debian 12",
    )
    assert agent == fleet.service.get(organisation_id, agent_id)


async def test_an_agent_of_another_organisation_is_not_found(fleet: Fleet, organisation_id: str) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    assert not fleet.service.exists("another", agent_id)
    assert await fleet.service.find("another", agent_id) is None
    with pytest.raises(NotFound):
        fleet.service.get("another", agent_id)
    with pytest.raises(NotFound):
        await fleet.service.update(principal("another"), AgentsUpdate(agent_id=agent_id, name="mine"))


async def test_people_change_only_what_they_name(fleet: Fleet, organisation_id: str) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    changed = await fleet.service.update(
        principal(organisation_id), AgentsUpdate(agent_id=agent_id, name="shop", tags=[])
    )
    assert (changed.name, changed.tags, changed.site, changed.hostname) == ("shop", [], "Basel", "web-01")
    await fleet.service.load()
    assert fleet.service.get(organisation_id, agent_id) == changed


async def test_a_viewer_changes_nothing(fleet: Fleet, organisation_id: str) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    with pytest.raises(Forbidden):
        await fleet.service.update(principal(organisation_id, Role.VIEWER), AgentsUpdate(agent_id=agent_id, name="x"))
    assert fleet.service.get(organisation_id, agent_id).name == "web-01"


async def test_a_new_configuration_is_offered_at_once_and_until_applied(
    fleet: Fleet, organisation_id: str, bus: InProcessBus
) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    config = AgentConfigInput(sample_interval_sec=5)
    with bus.subscribe(frozenset({"deliver"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as delivered:
        agent = await fleet.service.update(principal(organisation_id), AgentsUpdate(agent_id=agent_id, config=config))
        [event] = await delivered.batch(9)
    assert isinstance(event, Deliver)
    assert isinstance(event.frame, Desired)
    assert (event.frame.name, event.frame.hash) == (DesiredName.CONFIG, agent.config_hash)
    assert event.frame.body["sampleIntervalSec"] == 5
    assert not agent.config_applied
    assert DesiredName.CONFIG in {offer.name for offer in fleet.service.offers(agent, StateHashes())}

    await fleet.service.applied(organisation_id, agent_id, DesiredName.CONFIG, agent.config_hash)
    agent = fleet.service.get(organisation_id, agent_id)
    assert agent.config_applied
    hashes = fleet.service.desired_hashes(agent)
    applied = StateHashes(**{name.value: applied_hash for name, applied_hash in hashes.items()})
    assert fleet.service.offers(agent, applied) == []


async def test_a_machine_that_was_renamed_keeps_the_name_people_gave_it(fleet: Fleet, organisation_id: str) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    renamed = msgspec.structs.replace(SYSINFO, hostname="web-02")
    await fleet.service.described(organisation_id, agent_id, renamed)
    assert fleet.service.get(organisation_id, agent_id).name == "web-02"
    await fleet.service.update(principal(organisation_id), AgentsUpdate(agent_id=agent_id, name="shop"))
    await fleet.service.described(organisation_id, agent_id, msgspec.structs.replace(SYSINFO, hostname="web-03"))
    agent = fleet.service.get(organisation_id, agent_id)
    assert (agent.hostname, agent.name) == ("web-03", "shop")


async def test_thresholds_have_the_seeds_values_until_people_change_them(fleet: Fleet, organisation_id: str) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    assert fleet.service.thresholds_of(agent_id) == Thresholds()
    await fleet.service.update(
        principal(organisation_id), AgentsUpdate(agent_id=agent_id, thresholds=Thresholds(cpu_warning=50))
    )
    assert fleet.service.thresholds_of(agent_id).cpu_warning == 50


async def test_deleting_takes_every_trace_in_one_transaction_and_ends_the_session(
    database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str
) -> None:
    purged: list[str] = []

    async def purge(_connection: AsyncConnection, _organisation_id: str, agent_id: str) -> None:
        purged.append(agent_id)

    fleet = Fleet(database, bus, clock, [purge])
    agent_id = await fleet.with_agent(organisation_id)
    families = frozenset({"deliver", "fleet"})
    with bus.subscribe(families, name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as heard:
        await fleet.service.delete(principal(organisation_id), AgentsDelete(agent_id=agent_id))
        events: list[DomainEvent] = await heard.batch(9)
    assert purged == [agent_id]
    assert [type(event) for event in events] == [SessionEndRequested, AgentDeleted]
    assert await fleet.service.find(organisation_id, agent_id) is None


async def test_a_delete_that_fails_leaves_the_agent(
    database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str
) -> None:
    async def failing(_connection: AsyncConnection, _organisation_id: str, _agent_id: str) -> None:
        raise ZeroDivisionError

    fleet = Fleet(database, bus, clock, [failing])
    agent_id = await fleet.with_agent(organisation_id)
    with pytest.raises(ZeroDivisionError):
        await fleet.service.delete(principal(organisation_id), AgentsDelete(agent_id=agent_id))
    assert fleet.service.exists(organisation_id, agent_id)
    await fleet.service.load()
    assert fleet.service.exists(organisation_id, agent_id)


async def test_a_change_is_told_on_the_bus(fleet: Fleet, organisation_id: str, bus: InProcessBus) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    with bus.subscribe(frozenset({"fleet"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as heard:
        await fleet.service.update(principal(organisation_id), AgentsUpdate(agent_id=agent_id, site="Bern"))
        assert await heard.batch(9) == [AgentChanged(organisation_id=organisation_id, agent_id=agent_id)]


async def test_two_who_change_different_things_do_not_undo_each_other(fleet: Fleet, organisation_id: str) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    async with asyncio.timeout(30):
        await asyncio.gather(
            fleet.service.update(principal(organisation_id), AgentsUpdate(agent_id=agent_id, site="Bern")),
            fleet.service.update(principal(organisation_id), AgentsUpdate(agent_id=agent_id, name="shop")),
            fleet.service.applied(organisation_id, agent_id, DesiredName.CONFIG, "said by the agent"),
        )
    for _ in range(2):  # in memory, then as it was stored
        agent = fleet.service.get(organisation_id, agent_id)
        assert (agent.site, agent.name, agent.applied_config_hash) == ("Bern", "shop", "said by the agent")
        await fleet.service.load()


async def test_what_an_agent_says_after_it_was_deleted_does_not_bring_it_back(
    fleet: Fleet, organisation_id: str
) -> None:
    agent_id = await fleet.with_agent(organisation_id)
    async with fleet.database.write(EVERY_ORGANISATION) as connection:
        await FleetStore().delete(connection, organisation_id, agent_id)
    with pytest.raises(NotFound):
        await fleet.service.described(organisation_id, agent_id, msgspec.structs.replace(SYSINFO, hostname="ghost"))
    assert not fleet.service.exists(organisation_id, agent_id)


async def test_a_rotation_is_offered_to_everybody_trust_before_the_terms_of_certificates(
    fleet: Fleet, organisation_id: str, bus: InProcessBus
) -> None:
    agents = {await fleet.with_agent(organisation_id) for _ in range(2)}
    applied = StateHashes(**fleet.service.desired_hashes(fleet.service.get(organisation_id, min(agents))))
    fleet.anchor.trust = SignedTrust(document="bmV3", signatures=[])
    fleet.anchor.certificate_terms = CertificateTerms(issuer_sha256="bb")
    with bus.subscribe(frozenset({"deliver"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as delivered:
        fleet.service.announce_trust()
        events = await delivered.batch(9)
    for agent_id in agents:
        told = [event.frame for event in events if isinstance(event, Deliver) and event.agent_id == agent_id]
        names = [frame.name for frame in told if isinstance(frame, Desired)]
        assert names == [DesiredName.TRUST, DesiredName.CERTIFICATE]
        assert told == fleet.service.offers(fleet.service.get(organisation_id, agent_id), applied)
