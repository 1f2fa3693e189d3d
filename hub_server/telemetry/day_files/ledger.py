"""Which sequences are committed, over all days, as the writer knows it. Changed only after a commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from hub_server.telemetry.model import StoredRanges, StreamKey
from hub_server.telemetry.port import NewSample, added_by_stream
from protocol.frames import SequenceRange
from protocol.ranges import SequenceRanges

IMPORTED_STREAM: Final = "imported"
"""Rows of version 0.1: their sequences say only which of them were taken over already."""


class Ledger:
    """The ranges in it are never changed; others may hold them too."""

    def __init__(self) -> None:
        self._streams: dict[StreamKey, StoredRanges] = {}

    def all(self) -> list[StoredRanges]:
        """Return those written last at the end."""
        return list(self._streams.values())

    def of(self, keys: Collection[StreamKey]) -> list[StoredRanges]:
        wanted = {*keys}
        return [stored for key, stored in self._streams.items() if key in wanted]

    def replace(self, changed: Iterable[StoredRanges]) -> None:
        streams = self._streams
        for stored in changed:
            streams.pop(stored.key, None)
            streams[stored.key] = stored

    def add(self, organisation_id: str, key: StreamKey, ranges: Sequence[SequenceRange]) -> None:
        if key.stream == IMPORTED_STREAM:
            return
        known = self._streams.get(key)
        self.replace([StoredRanges(organisation_id, key, SequenceRanges([*(known.ranges if known else ()), *ranges]))])

    def add_samples(self, samples: Sequence[NewSample]) -> None:
        organisations = {sample.key: sample.organisation_id for sample in samples}
        for key, ranges in added_by_stream(samples).items():
            self.add(organisations[key], key, ranges)

    def forget(self, keys: Iterable[StreamKey]) -> None:
        for key in keys:
            self._streams.pop(key, None)

    def keys_of(self, organisation_id: str, agent_id: str) -> list[StreamKey]:
        return [
            key
            for key, stored in self._streams.items()
            if key.agent_id == agent_id and stored.organisation_id == organisation_id
        ]
