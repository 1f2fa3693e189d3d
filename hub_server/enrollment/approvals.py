"""The queue of machines that wait for a person: shown and decided here, for whoever may.

A decision issues nothing. The machine asks again by itself, with the same proof and the same key, and gets its
certificate in the transaction of that request: so nothing is signed for a machine that is gone, a yes can be taken back
until it was used, and everything that is checked of a machine is checked at the moment its certificate is made.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.enrollment.engine import decided
from hub_server.enrollment.model import Approval
from hub_server.enrollment.store import ApprovalStore
from hub_server.errors import Forbidden, KeyInUse, NotFound
from hub_server.storage.engine import Database
from protocol.enumerations import ApprovalKind, ApprovalState
from protocol.joining import ApprovalReply, ApprovalsDecide, ApprovalsList, ApprovalsListReply


class ApprovalDesk:
    """`life`: how long a request waits for a person, and a machine's certificate for the machine."""

    def __init__(self, *, database: Database, clock: Clock, life: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._life = life
        self._store = ApprovalStore()

    async def page(self, organisation_id: str, request: ApprovalsList) -> ApprovalsListReply:
        now = self._clock.now()
        async with self._database.read(organisation_id) as connection:
            approvals, total = await self._store.page(
                connection, organisation_id, state=request.state, now=now, limit=request.limit, offset=request.offset
            )
        views = [approval.as_view(now) for approval in approvals]
        return ApprovalsListReply(approvals=views, total=total, limit=request.limit, offset=request.offset)

    async def decide(
        self, organisation_id: str, actor: str, request: ApprovalsDecide, verdict: ApprovalState
    ) -> ApprovalReply:
        """Write a verdict; once more changes nothing. Raises NotFound, Conflict."""
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            before = await self._store.find(connection, organisation_id, request.approval_id, lock=True)
            if before is None:
                raise NotFound(f"nobody waits under the id {request.approval_id}", path="$.approvalId")
            approval = decided(before, verdict, actor, now, self._life)
            if approval is not before:
                await self._store.change(connection, organisation_id, approval.id, approval)
                verb = "approve" if verdict is ApprovalState.APPROVED else "reject"
                await _note(connection, approval, now, actor, f"approvals:{verb}")
        return ApprovalReply(approval=approval.as_view(now))


class ApprovalQueue:
    """The same queue, as joining and recovery use it inside their transactions."""

    def __init__(self, life: timedelta) -> None:
        self.life = life
        self.store = ApprovalStore()

    def request(
        self,
        kind: ApprovalKind,
        *,
        organisation_id: str,
        token_id: str | None,
        agent_id: str | None,
        public_key_sha256: bytes,
        csr_pem: str,
        hostname: str,
        os: str,
        address: str,
        site: str,
        tags: list[str],
        now: datetime,
    ) -> Approval:
        """Return the row of a machine that asks; it is not written yet."""
        approval_id = str(uuid.uuid4())
        return Approval(
            id=approval_id,
            organisation_id=organisation_id,
            kind=kind,
            state=ApprovalState.PENDING,
            token_id=token_id,
            agent_id=agent_id or approval_id,
            public_key_sha256=public_key_sha256,
            csr_pem=csr_pem,
            hostname=hostname,
            os=os,
            address=address[:64],
            site=site,
            tags=tags,
            requested_at=now,
            expires_at=now + self.life,
        )

    async def put(self, connection: AsyncConnection, wanted: Approval, instead_of: Approval | None, actor: str) -> None:
        """Write the row and its audit. Raises KeyInUse when the key waits in another organisation."""
        if instead_of is not None:
            await self.store.change(connection, wanted.organisation_id, instead_of.id, wanted)
        elif not await self.store.add(connection, wanted.organisation_id, wanted):
            raise KeyInUse("this key waits for approval elsewhere; delete the agent's key file and try with a new key")
        await _note(connection, wanted, wanted.requested_at, actor, "approvals:request")


def turned_away(approval: Approval) -> Forbidden:
    """Return the refusal that a machine hears which a person did not let in."""
    at = "" if approval.decided_at is None else f" at {approval.decided_at:%Y-%m-%d %H:%M} UTC"
    return Forbidden(f"this machine was turned away by a person{at}; ask whoever runs the hub")


async def _note(connection: AsyncConnection, approval: Approval, at: datetime, actor: str, action: str) -> None:
    await record(
        connection,
        organisation_id=approval.organisation_id,
        at=at,
        actor=actor,
        action=action,
        target=f"approval:{approval.id}",
        detail={
            "kind": approval.kind.value,
            "agentId": approval.agent_id,
            "hostname": approval.hostname,
            "address": approval.address,
            "fingerprint": approval.public_key_sha256.hex(),
        },
    )
