"""Whatever is repeated, reordered, corrected or killed: every sample that was sent is stored once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_server.events import MetricsReceived
from hub_server.telemetry.intake import Intake
from hub_server.telemetry.model import Received, StreamKey
from protocol.enumerations import Lane
from protocol.frames import Sample
from protocol.ranges import SequenceRanges
from tests.hub_server.telemetry.contract.builders import HOUR_MS, MIDNIGHT_MS, MINUTE_MS, ORGANISATION, Shelf


class Sent(NamedTuple):
    """A frame. Each time it is sent its samples may be of another time: clocks are corrected meanwhile."""

    lane: Lane
    epoch: int
    seqs: Sequence[int]
    shift_ms: int


class Commit(NamedTuple):
    """Frames of one group commit; `is_answered` when the hub learns of it."""

    frames: Sequence[Sent]
    is_answered: bool


class Pack(NamedTuple):
    now_ms: int


class Kill(NamedTuple):
    """The hub forgets what is in its memory."""


EPOCHS: Final = (11, 5, 99)
frames = st.builds(
    Sent,
    st.sampled_from(Lane),
    st.sampled_from(EPOCHS),
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.sampled_from([0, 0, 20 * HOUR_MS, -5 * MINUTE_MS]),
)
commits = st.builds(Commit, st.lists(frames, min_size=1, max_size=4), st.booleans())
packs = st.builds(Pack, st.sampled_from([MIDNIGHT_MS, MIDNIGHT_MS + HOUR_MS, MIDNIGHT_MS + 60 * HOUR_MS]))
scripts = st.lists(st.one_of(commits, commits, packs, st.just(Kill())), min_size=2, max_size=8)


def moment_of(seq: int, shift_ms: int) -> int:
    """Twelve samples around midnight."""
    return MIDNIGHT_MS + (seq - 6) * 7 * MINUTE_MS + shift_ms


def received_of(agent_id: str, sent: Sent) -> MetricsReceived:
    return MetricsReceived(
        organisation_id=ORGANISATION,
        agent_id=agent_id,
        lane=sent.lane,
        epoch=sent.epoch,
        samples=[
            Sample(seq=seq, ts=moment_of(seq, sent.shift_ms), metric_type="system", metric_data={"cpu_percent": seq})
            for seq in sent.seqs
        ],
        received_monotonic=0.0,
    )


class Hub:
    """What of a hub stores samples, and what was sent to it."""

    def __init__(self, shelf: Shelf) -> None:
        self.agent_id = str(uuid.uuid4())
        self._shelf = shelf
        self._received = Received()
        self.first_sent: dict[tuple[StreamKey, int], int] = {}

    async def take(self, step: Commit | Pack | Kill) -> None:
        match step:
            case Commit():
                await self._commit(step)
            case Pack():
                await self._shelf.pack(step.now_ms)
            case Kill():
                await self._shelf.reopen()
                self._received = Received()
                for stored in await self._shelf.store.load_ranges():
                    self._received.put(stored.key, stored.ranges)

    async def _commit(self, commit: Commit) -> None:
        intake = Intake(self._received, 0)
        for sent in commit.frames:
            intake.add(received_of(self.agent_id, sent))
            key = StreamKey(self.agent_id, sent.lane.value, sent.epoch)
            for seq in sent.seqs:
                self.first_sent.setdefault((key, seq), moment_of(seq, sent.shift_ms))
        changed = intake.changed()
        await self._shelf.store.add(intake.samples, changed)
        if not commit.is_answered:
            changed = await self._shelf.store.ranges_of({stored.key for stored in changed})
        for stored in changed:
            self._received.put(stored.key, stored.ranges)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(script=scripts)
async def test_every_sample_is_stored_once(shelf: Shelf, script: Sequence[Commit | Pack | Kill]) -> None:
    hub = Hub(shelf)
    for step in script:
        await hub.take(step)
    for step in (Pack(MIDNIGHT_MS), Kill()):
        found = await shelf.raw(agent=hub.agent_id)
        stored = sorted(zip(found.timestamps, found.values["cpu_percent"], strict=True))
        assert stored == sorted((at_ms, seq) for (_, seq), at_ms in hub.first_sent.items())
        sequences: dict[StreamKey, SequenceRanges] = {}
        for key, seq in hub.first_sent:
            sequences.setdefault(key, SequenceRanges()).add(seq)
        known = {key: ranges for key, ranges in (await shelf.ranges()).items() if key.agent_id == hub.agent_id}
        assert known == {key: ranges.to_list() for key, ranges in sequences.items()}
        await hub.take(step)
