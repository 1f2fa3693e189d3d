"""A store that hangs keeps back acknowledgements of samples and nothing else, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from hub_server.telemetry import engine
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.engine import BACKFILL_CREDITS
from hub_server.telemetry.model import StoredRanges
from hub_server.telemetry.port import NewSample
from protocol.enumerations import CommandOutcome, Lane
from protocol.frames import Command, CommandResult, CommandResultAck, Event, EventAck, HeartbeatAck, MetricsAck
from protocol.limits import STREAM_CREDITS
from tests.integration.hub import running_hub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.machine import AgentSocket, connected, enroll, greeted, heartbeat, metrics, now_ms, sample
from tests.integration.person import Person, known_to, watching


class Gate:
    """Stands before the real store's `add`; the hub runs on another thread's loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.opened.set()
        add = DayFiles.add

        async def guarded(store: DayFiles, samples: Sequence[NewSample], changed: Sequence[StoredRanges]) -> None:
            assert await asyncio.to_thread(self.opened.wait, DEADLINE_SECONDS)
            await add(store, samples, changed)

        monkeypatch.setattr(DayFiles, "add", guarded)


async def all_held(agent: AgentSocket) -> None:
    """Take acknowledgements of live samples, each of which leaves the agent one credit."""
    held = 0
    while held < STREAM_CREDITS:
        ack = await agent.take(MetricsAck, lambda ack: ack.lane is Lane.LIVE)
        held += sum(last - first + 1 for first, last in ack.ranges)
        assert ack.credits == 1


async def a_command_ends(person: Person, agent_id: str, agent: AgentSocket) -> None:
    await person.do("commands:create", agentId=agent_id, commandData={"argv": ["true"]})
    order = await agent.take(Command)
    await agent.send(CommandResult(command_id=order.command_id, status=CommandOutcome.COMPLETED, exit_code=0))
    await agent.take(CommandResultAck)


async def test_heartbeats_reports_and_results_flow_while_the_store_hangs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    async with running_hub(folder / "hub") as hub:
        identity, other = await enroll(hub, folder, "patient"), await enroll(hub, folder, "newcomer")
        async with watching(hub, await hub.sign_in()) as person, greeted(hub, identity) as agent:
            await known_to(person, identity.agent_id)
            gate.opened.clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(engine, "COMMIT_SECONDS_MAX", 1e-9)
                await agent.send(metrics(sample(1), lane=Lane.BACKFILL))
                for seq in range(1, STREAM_CREDITS + 1):
                    await agent.send(metrics(sample(seq)))
                for seq in (1, 2):
                    await agent.send(heartbeat())
                    await agent.take(HeartbeatAck)
                    await agent.send(Event(epoch=7, seq=seq, ts=now_ms(), kind="gap"))
                    assert (await agent.take(EventAck)).ranges == [(seq, seq)]
                await a_command_ends(person, identity.agent_id, agent)
                async with connected(hub, other.tls()) as newcomer:
                    assert (await newcomer.greet()).credits == {"live": 1, "backfill": 0}
                assert not agent.inbox.held(lambda frame: isinstance(frame, MetricsAck))
                gate.opened.set()
                history = await agent.take(MetricsAck, lambda ack: ack.lane is Lane.BACKFILL)
                assert (history.ranges, history.credits) == ([(1, 1)], 0)
                await all_held(agent)
            await agent.send(metrics(sample(STREAM_CREDITS + 1)))
            assert (await agent.take(MetricsAck, lambda ack: ack.lane is Lane.LIVE)).credits == STREAM_CREDITS
            back = await agent.take(MetricsAck, lambda ack: ack.lane is Lane.BACKFILL)
            assert (back.ranges, back.credits) == ([], BACKFILL_CREDITS)
            assert await person.stored_samples(identity.agent_id) == STREAM_CREDITS + 2
