"""Certificates of agents as the service issues, renews, supersedes, revokes and judges them; on both databases."""

import pytest

from hub_server.access.model import Principal
from hub_server.errors import Forbidden, InvalidRequest, KeyInUse, NotFound, RateLimited
from hub_server.fleet.store import FleetStore
from hub_server.pki.model import Standing
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enumerations import AgentTrust, CertificateState, Role
from protocol.identity import AgentIdentity
from protocol.oversight import CertificatesList
from tests.certificates import csr_of, ed25519_key
from tests.hub_server.pki.world import APART_SECONDS, World, standing_by


async def test_a_certificate_is_current_until_it_expires(world: World) -> None:
    agent = await world.agent()
    certificate = await world.issued(agent)
    assert world.standing(certificate) is Standing.CURRENT
    key = certificate.public_key_sha256
    assert world.certificates.standing(certificate.serial, "another", key) is Standing.UNKNOWN
    assert world.certificates.standing("00", agent.agent_id, key) is Standing.UNKNOWN
    assert world.certificates.expires_at(agent.agent_id) == certificate.not_after
    world.clock.advance(30 * 86400)
    assert world.standing(certificate) is Standing.EXPIRED


async def test_a_restart_remembers_what_was_issued_superseded_and_revoked(world: World) -> None:
    kept, revoked = await world.agent(), await world.agent()
    first, of_revoked = await world.issued(kept), await world.issued(revoked)
    second = await world.renewed(kept, first)
    await world.certificates.seen(second.serial, kept)
    await world.trust(revoked, AgentTrust.REVOKED)
    restarted = world.restarted()
    await restarted.load()
    for service in (world.certificates, restarted):
        assert standing_by(service, first) is Standing.SUPERSEDED
        assert standing_by(service, second) is Standing.CURRENT
        assert standing_by(service, of_revoked) is Standing.REVOKED
        assert service.is_successor(second.serial, of=first.serial)
        assert service.expires_at(revoked.agent_id) is None
        assert service.expires_at(kept.agent_id) == second.not_after


async def test_a_certificate_counts_with_its_own_key_alone(world: World) -> None:
    """Also after a restart, and whatever became of it: who shows another key learns nothing of the true one."""
    kept, revoked = await world.agent(), await world.agent()
    first, of_revoked = await world.issued(kept), await world.issued(revoked)
    second = await world.renewed(kept, first)
    await world.certificates.seen(second.serial, kept)
    await world.trust(revoked, AgentTrust.REVOKED)
    restarted, learning = world.restarted(), world.restarted()
    await restarted.load()
    await learning.reload()
    for service in (world.certificates, restarted, learning):
        for each in (first, second, of_revoked):
            assert service.standing(each.serial, each.agent_id, bytes(32)) is Standing.UNKNOWN
    assert standing_by(restarted, second) is Standing.CURRENT


async def test_a_revoked_certificate_is_not_handed_out_again(world: World) -> None:
    agent = await world.agent()
    certificate = await world.issued(agent)
    certificates, organisation_id = world.certificates, world.organisation_id
    async with world.database.read(EVERY_ORGANISATION) as connection:
        assert await certificates.find(connection, organisation_id, certificate.serial) == certificate
        assert await certificates.find(connection, "another", certificate.serial) is None
    async with world.database.write(EVERY_ORGANISATION) as connection:
        await certificates.revoke_agent(connection, "another", agent.agent_id)
        assert await certificates.find(connection, organisation_id, certificate.serial) == certificate
        await certificates.revoke_agent(connection, organisation_id, agent.agent_id)
        assert await certificates.find(connection, organisation_id, certificate.serial) is None


async def test_a_key_belongs_to_one_agent(world: World) -> None:
    first, second = await world.agent(), await world.agent()
    csr = csr_of(ed25519_key())
    await world.issued(first, csr)
    with pytest.raises(KeyInUse, match="new key"):
        await world.issued(second, csr)
    of_second = await world.issued(second)
    with pytest.raises(KeyInUse):
        await world.certificates.renew(second, of_second.serial, csr)
    assert await world.count() == 2
    await world.issued(first, csr)


async def test_a_renewal_asked_again_with_the_same_key_gives_the_same_certificate(world: World) -> None:
    agent = await world.agent()
    first, key = await world.issued(agent), ed25519_key()
    second = await world.renewed(agent, first, key)
    assert (second.replaces, second.serial == first.serial) == (first.serial, False)
    assert await world.renewed(agent, first, key) == second
    assert await world.count() == 2
    for certificate in (first, second):
        assert world.standing(certificate) is Standing.CURRENT


async def test_a_renewal_needs_a_new_key(world: World) -> None:
    agent, key = await world.agent(), ed25519_key()
    certificate = await world.issued(agent, csr_of(key))
    with pytest.raises(InvalidRequest, match="new key"):
        await world.renewed(agent, certificate, key)
    assert await world.count() == 1


async def test_an_agent_renews_once_a_minute_and_is_told_when_to_ask_again(world: World) -> None:
    agent, other = await world.agent(), await world.agent()
    certificate, of_other = await world.issued(agent), await world.issued(other)
    await world.renewed(agent, certificate)
    world.clock.advance(10)
    with pytest.raises(RateLimited, match="again in 50 s") as refused:
        await world.renewed(agent, certificate)
    assert refused.value.retry_after_seconds == 50
    await world.renewed(other, of_other)
    world.clock.advance(50)
    await world.renewed(agent, certificate)


async def test_what_was_replaced_and_what_was_never_used_gives_way_to_what_the_agent_uses(world: World) -> None:
    agent = await world.agent()
    first = await world.issued(agent)
    await world.certificates.seen(first.serial, agent)
    world.clock.advance(APART_SECONDS)
    lost = await world.renewed(agent, first)
    world.clock.advance(APART_SECONDS)
    used = await world.renewed(agent, first)
    world.clock.advance(APART_SECONDS)
    later = await world.renewed(agent, first)
    await world.certificates.seen(used.serial, agent)
    assert [world.standing(each) for each in (first, lost, used, later)] == [
        Standing.SUPERSEDED,
        Standing.SUPERSEDED,
        Standing.CURRENT,
        Standing.CURRENT,
    ]
    with pytest.raises(Forbidden, match="newer certificate"):
        await world.renewed(agent, first)


@pytest.mark.parametrize("trust", [AgentTrust.QUARANTINED, AgentTrust.REVOKED])
async def test_an_agent_that_is_kept_out_renews_nothing(world: World, trust: AgentTrust) -> None:
    agent = await world.agent()
    certificate = await world.issued(agent)
    await world.trust(agent, trust)
    with pytest.raises(Forbidden, match=trust):
        await world.renewed(agent, certificate)
    async with world.database.write(EVERY_ORGANISATION) as connection:
        with pytest.raises(Forbidden, match=trust):
            await world.certificates.recover_issue(
                connection,
                agent.organisation_id,
                agent.agent_id,
                csr_of(ed25519_key()),
                replaces=certificate.serial,
            )
    assert await world.count() == 1


async def test_only_an_own_certificate_that_counts_is_renewed(world: World) -> None:
    agent, other = await world.agent(), await world.agent()
    certificate, of_other = await world.issued(agent), await world.issued(other)
    with pytest.raises(Forbidden):
        await world.renewed(agent, of_other)
    with pytest.raises(NotFound):
        await world.renewed(AgentIdentity("jtnt", world.organisation_id, "nobody"), certificate)
    world.clock.advance(30 * 86400)
    with pytest.raises(Forbidden, match="expired"):
        await world.renewed(agent, certificate)
    assert await world.count() == 2


async def test_an_expired_certificate_is_recovered_and_a_revoked_or_superseded_one_is_not(world: World) -> None:
    agent, revoked = await world.agent(), await world.agent()
    first, of_revoked = await world.issued(agent), await world.issued(revoked)
    await world.trust(revoked, AgentTrust.REVOKED)
    world.clock.advance(40 * 86400)
    async with world.database.write(EVERY_ORGANISATION) as connection:
        assert await world.certificates.recoverable(connection, of_revoked.serial) is None
        found = await world.certificates.recoverable(connection, first.serial)
        assert found is not None
        assert found.certificate == first
        second = await world.certificates.recover_issue(
            connection, agent.organisation_id, agent.agent_id, csr_of(ed25519_key()), replaces=first.serial
        )
    world.certificates.note_issued(
        serial=second.serial,
        agent_id=agent.agent_id,
        public_key_sha256=second.public_key_sha256,
        issuer=second.issuer,
        expires_at=second.not_after,
        replaces=first.serial,
    )
    await world.certificates.seen(second.serial, agent)
    async with world.database.read(EVERY_ORGANISATION) as connection:
        assert await world.certificates.recoverable(connection, first.serial) is None


async def test_what_another_hub_did_is_learnt_at_the_door_and_every_minute(world: World) -> None:
    agent = await world.agent()
    here = world.restarted()
    await here.load()
    first = await world.issued(agent)
    key = first.public_key_sha256
    assert await here.look_up(first.serial, agent.agent_id, bytes(32)) is Standing.UNKNOWN
    assert await here.look_up(first.serial, agent.agent_id, key) is Standing.CURRENT
    assert await here.look_up("00", agent.agent_id, key) is Standing.UNKNOWN
    second = await world.renewed(agent, first)
    await world.certificates.seen(second.serial, agent)
    await here.reload()
    assert standing_by(here, first) is Standing.SUPERSEDED
    await world.trust(agent, AgentTrust.REVOKED)
    await here.reload()
    for each in (first, second):
        assert await here.look_up(each.serial, agent.agent_id, each.public_key_sha256) is Standing.REVOKED


async def test_the_certificates_of_a_deleted_agent_are_known_as_revoked_until_they_expired(world: World) -> None:
    agent = await world.agent()
    certificate = await world.issued(agent)
    async with world.database.write(EVERY_ORGANISATION) as connection:
        await world.certificates.revoke_agent(connection, agent.organisation_id, agent.agent_id)
        await FleetStore().delete(connection, agent.organisation_id, agent.agent_id)
    restarted = world.restarted()
    await restarted.load()
    assert standing_by(restarted, certificate) is Standing.REVOKED
    world.clock.advance(29 * 86400)
    await restarted.reload()
    assert await world.count() == 1
    world.clock.advance(2 * 86400 + 1)
    await restarted.reload()
    assert await world.count() == 0
    assert standing_by(restarted, certificate) is Standing.UNKNOWN


async def test_certificates_are_listed_by_state_soonest_to_end_first(world: World) -> None:
    agent, other = await world.agent(), await world.agent()
    first = await world.issued(agent)
    world.clock.advance(APART_SECONDS)
    second, of_other = await world.renewed(agent, first), await world.issued(other)
    await world.certificates.seen(second.serial, agent)
    await world.trust(other, AgentTrust.REVOKED)
    person = Principal(user_id="u", username="ada", organisation_id=world.organisation_id, role=Role.AUDITOR)

    async def serials(**wanted: object) -> list[str]:
        stored, total = await world.certificates.list(person, CertificatesList(**wanted))  # type: ignore[arg-type]
        assert total == len(stored)
        return [each.certificate.serial for each in stored]

    assert await serials() == [second.serial]
    assert await serials(state=CertificateState.SUPERSEDED) == [first.serial]
    assert await serials(state=CertificateState.REVOKED) == [of_other.serial]
    assert await serials(state=CertificateState.EXPIRED) == []
    assert await serials(state=None, agent_id=agent.agent_id) == [first.serial, second.serial]
    with pytest.raises(Forbidden):
        await world.certificates.list(
            Principal(user_id="u", username="eve", organisation_id=world.organisation_id, role=Role.TECHNICIAN),
            CertificatesList(),
        )
    world.clock.advance(40 * 86400)
    assert await serials() == []
    assert set(await serials(state=CertificateState.EXPIRED)) == {first.serial, second.serial}


async def test_suspicions_count_for_an_hour(world: World) -> None:
    agent = await world.agent()
    counts = []
    for wait_seconds in (0, 1800, 1700, 200):
        world.clock.advance(wait_seconds)
        counts.append(
            await world.certificates.suspect_clone(agent, older_address="192.0.2.1", newer_address="192.0.2.2")
        )
    assert counts == [1, 2, 3, 3]
    gone = AgentIdentity("jtnt", world.organisation_id, "nobody")
    assert await world.certificates.suspect_clone(gone, older_address="", newer_address="") == 0


async def test_of_certificates_that_ended_only_those_by_which_an_agent_may_recover_are_kept(world: World) -> None:
    agent = await world.agent()
    first = await world.issued(agent)
    await world.certificates.seen(first.serial, agent)
    second = await world.renewed(agent, first)
    await world.certificates.seen(second.serial, agent)
    await world.certificates.reload()
    assert await world.count() == 2
    world.clock.advance(32 * 86400)
    await world.certificates.reload()
    assert await world.count() == 1
    async with world.database.read(EVERY_ORGANISATION) as connection:
        assert await world.certificates.recoverable(connection, second.serial) is not None
