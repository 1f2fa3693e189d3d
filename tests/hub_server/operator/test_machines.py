"""Names of machines, asked of a hub that counts its questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hub_server.operator.errors import Refused
from hub_server.operator.jobs import Following
from hub_server.operator.machines import names_of, told_apart
from hub_server.operator.packets import AnyReply
from protocol.codes import ErrorCode
from protocol.operations import AgentsList, AgentsListReply
from protocol.requests import Request
from tests.protocol.examples.events import COUNTS, SUMMARY


class CountingHub:
    """Knows the machines `m0`, `m1` … up to `known`."""

    def __init__(self, known: int, *, refuses: bool = False) -> None:
        self._names = {f"m{number}": f"name {number}" for number in range(known)}
        self._refuses = refuses
        self.asked: list[int] = []

    async def ask(
        self,
        _operation: str,
        request: Request,
        reply_type: type[AnyReply],
        *,
        deadline_seconds: float = 1.0,  # noqa: ARG002  part of the port
    ) -> AnyReply:
        assert isinstance(request, AgentsList)
        ids = request.filter.ids or []
        assert len(ids) <= request.limit
        self.asked.append(len(ids))
        if self._refuses:
            raise Refused(ErrorCode.FORBIDDEN, "not yours to see")
        found = [
            msgspec.structs.replace(SUMMARY, id=agent_id, name=self._names[agent_id])
            for agent_id in ids
            if agent_id in self._names
        ]
        reply = AgentsListReply(agents=found, total=len(found), limit=request.limit, offset=0, counts=COUNTS)
        assert isinstance(reply, reply_type)
        return reply

    @contextmanager
    def following(self, _command_id: str, _following: Following) -> Iterator[None]:
        yield


async def test_names_of_many_jobs_machines_take_one_question_a_thousand() -> None:
    hub = CountingHub(known=1500)
    names = await names_of(hub, [*(f"m{number}" for number in range(1500)), "m0", "gone"])
    assert hub.asked == [1000, 501]
    assert (len(names), names["m0"], names["m1499"]) == (1500, "name 0", "name 1499")


async def test_who_may_not_read_machines_sees_jobs_without_their_names() -> None:
    assert await names_of(CountingHub(known=1, refuses=True), ["m0"]) == {}


def test_machines_of_one_name_are_called_by_the_start_of_their_ids_too() -> None:
    called = {"11111111-a": "web", "22222222-b": "web", "33333333-c": "db"}
    assert [*told_apart(called).values()] == ["web (11111111)", "web (22222222)", "db"]
