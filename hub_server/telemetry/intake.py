"""Which samples of a batch are new, and what its agents are told once they are stored. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hub_server.telemetry.bounds import HOUR_MS, Allowances
from hub_server.telemetry.model import (
    TYPES_PER_AGENT_MAX,
    Receipt,
    Received,
    SampleFrame,
    StoredRanges,
    StreamKey,
    bounded,
)
from hub_server.telemetry.port import NewSample
from protocol.frames import Sample, SequenceRange
from protocol.ranges import SequenceRanges


class Intake:
    """What one commit writes, and what is said after it. Samples before `cutoff_ms` are taken and not stored, nor are
    those of a type that is none of its agent's, or beyond what an hour may have.
    """

    def __init__(
        self,
        received: Received,
        cutoff_ms: int,
        types_of: Callable[[str], Collection[str]] | None = None,
        allowances: Allowances | None = None,
        now_ms: int = 0,
    ) -> None:
        """`types_of` returns the metric types an agent has; once there are as many as it may have, others are not."""
        self._received = received
        self._cutoff_ms = cutoff_ms
        self._types_of = types_of
        self._allowances = Allowances() if allowances is None else allowances
        self._now_hour = now_ms // HOUR_MS
        self._streams: dict[StreamKey, _Stream] = {}
        self.samples: list[NewSample] = []
        self.duplicates = 0
        self.too_old = 0
        self.too_many = 0
        self.exceeded: list[tuple[str, str]] = []
        """Agents that were beyond their allowance for the first time since it began, and with which metric type."""

    def add(self, frame: SampleFrame) -> None:
        """Take the samples of `frame` that are neither received nor in this intake yet."""
        agent_id, lane, samples = frame.agent_id, frame.lane.value, frame.samples
        if self._received.is_gone(agent_id):
            return
        key = self._received.key_of(agent_id, lane, frame.epoch)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(frame, self._received.of(agent_id, lane, frame.epoch))
        new = stream.new_of(samples)
        self.duplicates += len(samples) - len(new)
        organisation_id, cutoff_ms = frame.organisation_id, self._cutoff_ms
        known = () if self._types_of is None else self._types_of(agent_id)
        types = known if len(known) >= TYPES_PER_AGENT_MAX else None
        allowance = self._allowances.of(agent_id, self._now_hour)
        for sample in new:
            if sample.ts < cutoff_ms:
                self.too_old += 1
            elif types is not None and sample.metric_type not in types:
                self.too_many += 1
            elif not allowance.takes(sample.metric_type, sample.ts, sample.metric_data):
                self.too_many += 1
                if not allowance.is_exceeded:
                    allowance.is_exceeded = True
                    self.exceeded.append((agent_id, sample.metric_type))
            else:
                self.samples.append(
                    NewSample(organisation_id, key, sample.seq, sample.metric_type, sample.ts, sample.metric_data)
                )

    def changed(self) -> list[StoredRanges]:
        """Return the whole ranges of every numbering that grew."""
        return [
            StoredRanges(stream.first.organisation_id, key, bounded(stream.held))
            for key, stream in self._streams.items()
            if stream.grew
        ]

    def receipts(self) -> list[Receipt]:
        return [
            Receipt(
                stream.first.organisation_id,
                stream.first.agent_id,
                stream.first.lane,
                stream.first.epoch,
                stream.told if len(stream.told) == 1 else SequenceRanges(stream.told).to_list(),
                stream.first.received_monotonic,
            )
            for stream in self._streams.values()
        ]


class _Stream:
    """The frames of one agent, lane and epoch: `told` is what was in them, `held` also what was committed before."""

    __slots__ = ("first", "grew", "held", "told")

    def __init__(self, first: SampleFrame, committed: SequenceRanges | None) -> None:
        self.first = first
        self.grew = False
        self.held = committed or SequenceRanges()
        self.told: list[SequenceRange] = []

    def new_of(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """Return those of `samples` that are not held yet, and hold them."""
        first = samples[0].seq
        if first > self.held.newest and _is_run(samples, first):  # what comes next, nearly always
            last = first + len(samples) - 1
            self.held.add(first, last)
            self.told.append((first, last))
            self.grew = True
            return samples
        new = []
        for sample in samples:
            self.told.append((sample.seq, sample.seq))
            if sample.seq not in self.held:
                self.held.add(sample.seq)
                new.append(sample)
        self.grew = self.grew or bool(new)
        return new


def _is_run(samples: Sequence[Sample], first: int) -> bool:
    """Tell whether the sequences of `samples` follow each other from `first` on."""
    return len(samples) == 1 or all(sample.seq == sequence for sequence, sample in enumerate(samples, start=first))
