"""Renewals that race a revocation or a deletion: whoever comes first, nothing usable is left; on both databases."""

import asyncio

from sqlalchemy import func, select
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.errors import Forbidden, NotFound, RateLimited
from hub_server.fleet.service import FleetService
from hub_server.fleet.store import FleetStore
from hub_server.pki.model import Standing
from hub_server.pki.tables import CertificateRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enumerations import AgentTrust, Role
from protocol.operations import AgentsDelete
from tests.hub_server.pki.world import World, standing_by


async def test_a_renewal_whose_commit_is_learnt_after_the_revocation_gets_nobody_in(world: World) -> None:
    agent = await world.agent()
    certificate = await world.issued(agent)
    await world.trust(agent, AgentTrust.REVOKED)
    world.certificates.note_issued(
        serial="0A",
        agent_id=agent.agent_id,
        public_key_sha256=b"key",
        issuer=certificate.issuer,
        expires_at=certificate.not_after,
        replaces=certificate.serial,
    )
    assert world.certificates.standing("0A", agent.agent_id, b"key") is Standing.REVOKED


async def test_a_revocation_that_races_renewals_leaves_no_certificate(world: World) -> None:
    for _ in range(10):
        agent = await world.agent()
        certificate = await world.issued(agent)
        world.clock.advance(1)
        async with asyncio.timeout(30):
            results = await asyncio.gather(
                world.renewed(agent, certificate),
                world.trust(agent, AgentTrust.REVOKED),
                world.renewed(agent, certificate),
                return_exceptions=True,
            )
        assert not [
            each for each in results if isinstance(each, Exception) and not isinstance(each, Forbidden | RateLimited)
        ]
        assert set(await world.standings(agent)) == {Standing.REVOKED}
        restarted = world.restarted()
        await restarted.load()
        assert standing_by(restarted, certificate) is Standing.REVOKED
    async with world.database.read(EVERY_ORGANISATION) as connection:
        usable = select(func.count()).where(col(CertificateRow.revoked_at).is_(None))
        assert await connection.scalar(usable) == 0


async def test_a_deletion_that_races_renewals_leaves_no_certificate(world: World) -> None:
    fleet = FleetService(
        database=world.database,
        bus=InProcessBus(),
        clock=world.clock,
        store=FleetStore(),
        anchor=world.authority,
        purges=(world.certificates.revoke_agent,),
    )
    person = Principal(user_id="u", username="ada", organisation_id=world.organisation_id, role=Role.ORG_ADMIN)
    for _ in range(10):
        agent = await world.agent()
        certificate = await world.issued(agent)
        await fleet.reload(agent.organisation_id, agent.agent_id)
        async with asyncio.timeout(30):
            results = await asyncio.gather(
                world.renewed(agent, certificate),
                fleet.delete(person, AgentsDelete(agent_id=agent.agent_id)),
                return_exceptions=True,
            )
        assert not [each for each in results if isinstance(each, Exception) and not isinstance(each, NotFound)]
        world.certificates.note_revoked(agent.agent_id)
        assert set(await world.standings(agent)) == {Standing.REVOKED}
    async with world.database.read(EVERY_ORGANISATION) as connection:
        usable = select(func.count()).where(col(CertificateRow.revoked_at).is_(None))
        assert await connection.scalar(usable) == 0
