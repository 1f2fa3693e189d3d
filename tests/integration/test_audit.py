"""What a hub did is signed at its end, shown to agents, and stands against what they keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from hub_server.audit.tables import AuditHeadRow, AuditRow
from hub_server.audit.verification import ENTRIES, Verdict, verify
from hub_server.pki.audit_keys import signed_audit_keys
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.frames import Checkpoint
from tests.integration.hub import RunningHub, running_hub
from tests.integration.machine import connected, enroll
from tests.integration.person import watching


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url


async def verified(hub: RunningHub, *witnesses: Checkpoint) -> Verdict:
    root_pem = (hub.settings.pki_dir / "root.crt").read_text()
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        keys = await signed_audit_keys(connection, root_pem)
    return await verify(hub.database, keys.keys, witnesses, keys.revoked)


async def test_an_agent_is_witness_of_all_that_was_done_before_the_hub_stopped(
    folder: Path, database_url: str | None
) -> None:
    async with running_hub(folder / "hub", database_url=database_url) as hub:
        identity = await enroll(hub, folder, "witness")
        async with watching(hub, await hub.sign_in()) as person:
            await person.do("tokens:create")
        await hub.stop()
        hub_id = (folder / "hub" / "hub.id").read_text().strip()
        async with hub.database.read(EVERY_ORGANISATION) as connection:
            head = (await connection.execute(select(AuditHeadRow).where(col(AuditHeadRow.hub_id) == hub_id))).one()
        assert (head.hub_id, head.checkpoint) == (hub_id, head.number)
        await hub.start()
        async with connected(hub, identity.tls()) as agent:
            witness = (await agent.greet()).checkpoint
        assert witness is not None
        assert (witness.hub_id, witness.number, witness.hash) == (hub_id, head.number, head.hash)
        verdict = await verified(hub, witness)
        assert (verdict.entries >= head.number, verdict.witnesses, verdict.faults) == (True, 1, [])
        async with hub.database.write(EVERY_ORGANISATION) as connection:
            second = (col(AuditRow.hub_id) == hub_id) & (col(AuditRow.number) == 2)
            await connection.execute(update(AuditRow).where(second).values(actor="user:nobody"))
        assert [(fault.table, fault.number) for fault in (await verified(hub, witness)).faults] == [(ENTRIES, 2)]
