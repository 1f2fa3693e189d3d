"""A job whose hub tells of its end before it gives the rest of its output."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hub_server.operator import jobs
from hub_server.operator.errors import OutputMissing
from hub_server.operator.jobs import Following, Job
from hub_server.operator.output import Chunk
from hub_server.operator.packets import AnyReply
from protocol.commands import CommandsOutput
from protocol.enumerations import OutputStream
from protocol.requests import Request
from tests.hub_server.operator.test_output import page
from tests.hub_server.operator.test_printing import VIEW

DEADLINE_SECONDS = 20.0


class LateHub:
    """Says that the job has ended at the first question, and gives its output from the `late`th question on."""

    def __init__(self, late: int) -> None:
        self._late = late
        self._followings: list[Following] = []
        self.asked = 0

    async def ask(
        self,
        _operation: str,
        request: Request,
        reply_type: type[AnyReply],
        *,
        deadline_seconds: float = DEADLINE_SECONDS,  # noqa: ARG002  part of the port
    ) -> AnyReply:
        assert isinstance(request, CommandsOutput)
        self.asked += 1
        if self.asked == 1:
            for following in self._followings:
                following.ended()
        is_there = self.asked >= self._late
        data = b"late" if is_there and request.stream is OutputStream.STDOUT and request.offset == 0 else b""
        reply = page(request.stream, request.offset, data, complete=is_there)
        assert isinstance(reply, reply_type)
        return reply

    @contextmanager
    def following(self, _command_id: str, following: Following) -> Iterator[None]:
        self._followings.append(following)
        yield
        self._followings.remove(following)


async def test_the_rest_is_asked_for_until_it_is_there() -> None:
    hub = LateHub(late=6)
    async with asyncio.timeout(DEADLINE_SECONDS / 2):
        chunks = [chunk async for chunk in Job(hub, VIEW).output()]
    assert chunks == [Chunk(OutputStream.STDOUT, 0, b"late")]


async def test_a_rest_that_never_comes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "REST_DEADLINE_SECONDS", 0.1)
    output = Job(LateHub(late=10_000), VIEW).output()
    with pytest.raises(OutputMissing, match="does not give"):
        await asyncio.wait_for(anext(output), DEADLINE_SECONDS)
