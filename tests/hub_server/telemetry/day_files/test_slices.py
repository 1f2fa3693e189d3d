"""Rows that are more text than is read at once are packed in slices, and closed without what cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from hub_server.telemetry.day_files import gathering, packer
from hub_server.telemetry.day_files.folder import DayFiles
from tests.hub_server.telemetry.contract.builders import HOUR_MS, LATER_MS, NOON_MS, Shelf, sample

TEXT_MAX = 20_000
SAMPLE_CHARS = 300


@pytest.fixture
async def narrow(folder: Path, unsynced: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shelf]:
    """A store that reads little text at once."""
    monkeypatch.setattr(gathering, "TEXT_AT_ONCE_MAX", TEXT_MAX)
    monkeypatch.setattr(packer, "TEXT_AT_ONCE_MAX", TEXT_MAX)
    async with Shelf(lambda: DayFiles(folder=folder)).opened() as opened:
        yield opened


def dots(seq: int) -> str:
    return f"{seq}".ljust(SAMPLE_CHARS, ".")


def noise(seq: int) -> str:
    return Random(seq).randbytes(SAMPLE_CHARS // 2).hex()


async def add_long(
    shelf: Shelf, first: int, count: int, agent: str = "a1", *, pad: Callable[[int], str] = dots
) -> None:
    for seq in range(first, first + count):
        note = pad(seq)
        await shelf.add(sample(seq, NOON_MS + seq * 1000, {"cpu_percent": float(seq), "note": note}, agent=agent))


async def test_rows_that_are_too_much_text_at_once_are_packed_in_slices(narrow: Shelf) -> None:
    """Of one series alone, which SQLite could not gather, and of several together."""
    await add_long(narrow, 1, 100)
    await add_long(narrow, 1, 40, "a2")
    await add_long(narrow, 1, 40, "a3")
    assert await narrow.pack(NOON_MS + HOUR_MS // 2) == 180
    await narrow.reopen()
    await narrow.pack()
    for agent, count in (("a1", 100), ("a2", 40), ("a3", 40)):
        assert await narrow.values(agent) == [float(seq) for seq in range(1, count + 1)]
    assert narrow.store.figures().cut_hours == 0
    assert narrow.store.figures().hot_samples == 0


async def test_an_hour_with_a_part_that_is_too_long_is_closed_without_it_and_others_as_they_are(
    shelf: Shelf, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored by a hub that knew no bounds."""
    await add_long(shelf, 1, 100)
    await shelf.pack(NOON_MS + HOUR_MS // 4)
    await add_long(shelf, 200, 5)
    await add_long(shelf, 1, 5, "a2")
    await shelf.pack(NOON_MS + HOUR_MS // 2)
    await shelf.store.close()
    monkeypatch.setattr(packer, "TEXT_AT_ONCE_MAX", TEXT_MAX)
    async with Shelf(lambda: DayFiles(folder=folder)).opened() as restarted:
        with capture_logs() as logs:
            await restarted.pack()
        assert await restarted.values("a1") == [200.0, 201.0, 202.0, 203.0, 204.0]
        assert await restarted.values("a2") == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert restarted.store.figures().cut_hours == 1
    assert [line["agent_id"] for line in logs if line["event"].startswith("samples of an hour left out")] == ["a1"]


async def test_a_piece_has_no_more_text_than_is_read_at_once_however_many_machines_it_is_of(narrow: Shelf) -> None:
    for agent in range(4):
        await add_long(narrow, 1, 40, f"a{agent}")
    pieces = [await narrow.store.pack(NOON_MS + HOUR_MS // 2) for _ in range(4)]
    assert sum(pieces) == 160
    assert max(pieces) * SAMPLE_CHARS <= TEXT_MAX


async def test_an_hour_whose_chunk_is_longer_than_what_is_read_at_once_takes_late_samples(
    narrow: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that cannot be packed any closer. What holds up an hour would hold up those of all machines."""
    monkeypatch.setattr(gathering, "HOUR_TEXT_MAX", 10 * TEXT_MAX)
    await add_long(narrow, 1, 120, pad=noise)
    await narrow.pack()
    await add_long(narrow, 200, 3, pad=noise)
    await add_long(narrow, 1, 3, "a2")
    await narrow.pack(LATER_MS + HOUR_MS)
    assert await narrow.values("a1") == [float(seq) for seq in (*range(1, 121), 200, 201, 202)]
    assert await narrow.values("a2") == [1.0, 2.0, 3.0]
    assert narrow.store.figures().cut_hours == 0


async def test_hours_with_long_chunks_are_closed_a_few_at_a_time(narrow: Shelf) -> None:
    for agent in range(5):
        await add_long(narrow, 1, 80, f"a{agent}", pad=noise)
    await narrow.pack(NOON_MS + HOUR_MS // 2)
    closed = [await narrow.store.pack(LATER_MS) for _ in range(4)]
    assert closed == [160, 160, 80, 0]
    for agent in range(5):
        assert await narrow.values(f"a{agent}") == [float(seq) for seq in range(1, 81)]
    assert await narrow.store.pack(LATER_MS + HOUR_MS) == 0


async def test_an_hour_is_closed_with_no_more_text_than_it_may_have(
    narrow: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "HOUR_TEXT_MAX", 2 * TEXT_MAX)
    await add_long(narrow, 1, 400)
    await narrow.pack(NOON_MS + HOUR_MS // 2)
    await narrow.pack()
    kept = await narrow.values("a1")
    assert TEXT_MAX // 2 < len(kept) * SAMPLE_CHARS <= 2 * TEXT_MAX
    assert narrow.store.figures().cut_hours == 1
    assert await narrow.pack(LATER_MS + HOUR_MS) == 0
