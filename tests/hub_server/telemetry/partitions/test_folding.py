"""What one piece of packing writes."""

from __future__ import annotations

import pytest

from hub_server.telemetry.packing import unpacked
from hub_server.telemetry.partitions import folding
from hub_server.telemetry.partitions.folding import Place, Taken, folded
from tests.hub_server.telemetry.contract.builders import NOON_MS

TEXT_MAX = 10_000
NOTE = "x" * 300
HOUR = Place("a1", "custom.note", NOON_MS)


def taken(first: int, count: int) -> list[Taken]:
    return [
        Taken(HOUR.agent_id, HOUR.metric_type, "o1", NOON_MS + 1000 * seq, f'{{"seq":{seq},"note":"{seq}{NOTE}"}}')
        for seq in range(first, first + count)
    ]


def test_an_hour_is_packed_with_no_more_text_than_it_may_have_however_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "HOUR_TEXT_MAX", TEXT_MAX)
    first = folded(taken(1, 20), {}, {})
    assert first.cut == []
    [(*_, chunk)] = first.chunks
    assert len(chunk) < TEXT_MAX // 10, "what it is unfolded counts"
    second = folded(taken(21, 20), {HOUR: chunk}, {})
    [(*_, body)] = second.chunks
    times, rows = unpacked(body)
    assert TEXT_MAX * 0.9 < len(NOTE) * len(rows) <= TEXT_MAX
    assert times[:21] == [NOON_MS + 1000 * seq for seq in range(1, 22)], "those that came first"
    assert second.cut == [HOUR]
