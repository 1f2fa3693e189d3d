"""What a hub that was killed has on its disk: which sequences it would acknowledge, and the samples themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from msgspec import Struct

from hub_server.bench.agent import now_ms
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import EVENTS_STREAM, HUB_AGENT_PREFIX
from protocol.ranges import SequenceRanges

STORE: Final = "metrics"
COUNTED_AGENTS: Final = 100
SYSTEM: Final = "system"
DAY_MS: Final = 24 * 3_600_000


class Kept(Struct, frozen=True):
    """`sequences` of all agents; `counted_sequences` and, one by one, `samples` of the first COUNTED_AGENTS."""

    sequences: int
    counted_sequences: int
    samples: int


async def kept(data_dir: Path) -> Kept:
    """Look into the store of a hub that does not run."""
    store = DayFiles(folder=data_dir / STORE)
    await store.open()
    try:
        sequences: Counter[tuple[str, str]] = Counter()
        for stored in await store.load_ranges():
            if stored.key.stream != EVENTS_STREAM and not stored.key.agent_id.startswith(HUB_AGENT_PREFIX):
                sequences[stored.organisation_id, stored.key.agent_id] += _length(stored.ranges)
        counted, samples = sorted(sequences)[:COUNTED_AGENTS], 0
        for organisation_id, agent_id in counted:
            rows = await store.raw(organisation_id, agent_id, SYSTEM, ["cpu_percent"], 0, now_ms() + DAY_MS)
            samples += len(rows.timestamps)
        return Kept(sequences.total(), sum(sequences[agent] for agent in counted), samples)
    finally:
        await store.close()


def _length(ranges: SequenceRanges) -> int:
    return sum(last - first + 1 for first, last in ranges)
