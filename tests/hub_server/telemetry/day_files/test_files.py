"""What lies on the disk: private, put aside when damaged, gone when it is too old."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hub_server.storage.sqlite_files import open_reader
from hub_server.telemetry.day_files import mirror
from hub_server.telemetry.day_files.day import Day
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.port import StoreFailed
from tests.hub_server.telemetry.contract.builders import DAY_MS, HOUR_MS, LATER_MS, MIDNIGHT_MS, NOON_MS, Shelf, sample

YESTERDAY = "raw/2026-11-21.db"
TODAY = "raw/2026-11-22.db"
LATE_MS = 16 * 60_000


async def test_nobody_else_can_read_the_files(shelf: Shelf, folder: Path) -> None:
    await shelf.add(sample(1), sample(2, NOON_MS - DAY_MS))
    await shelf.pack()
    files = files_in(folder)
    assert {path.relative_to(folder).as_posix() for path in files if path.suffix == ".db"} == {
        YESTERDAY,
        TODAY,
        "index.db",
        *("rollups/1m/2026-11-21.db", "rollups/1m/2026-11-22.db", "rollups/5m/2026-11.db", "rollups/1h/2026-11.db"),
    }
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("damaged", [TODAY, "index.db"])
async def test_a_damaged_file_is_put_aside_and_the_store_goes_on(shelf: Shelf, folder: Path, damaged: str) -> None:
    await shelf.add(sample(1), sample(2, NOON_MS - DAY_MS))
    await shelf.store.close()
    (folder / damaged).write_bytes(b"no database" * 1000)
    await shelf.reopen()
    assert (folder / f"{damaged}.damaged-1").read_bytes().startswith(b"no database")
    assert NOON_MS - DAY_MS in await shelf.times()
    await shelf.add(sample(3))
    await shelf.pack()
    assert NOON_MS + 30_000 in await shelf.times()


async def test_a_file_that_is_damaged_while_it_is_used_is_put_aside(shelf: Shelf, folder: Path) -> None:
    await shelf.add(*(sample(seq) for seq in range(2000)))
    await shelf.pack()
    await shelf.store.close()
    with (folder / TODAY).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    await shelf.reopen()
    for seq in (2001, 2002, 2003):
        with suppress(StoreFailed):
            await shelf.add(sample(seq))
    await shelf.add(sample(2004))
    assert NOON_MS + 20_040_000 in await shelf.times()


async def test_a_period_goes_while_it_is_read(shelf: Shelf, folder: Path) -> None:
    await shelf.add(*(sample(seq, NOON_MS - DAY_MS + seq) for seq in range(100)), sample(200))
    assert len(await shelf.times()) == 101
    connection = open_reader(folder / YESTERDAY)
    assert connection is not None
    with closing(connection):
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM hot").fetchone() == (100,)
        assert await shelf.store.drop_before(Resolution.RAW, MIDNIGHT_MS) == 1
        assert connection.execute("SELECT count(*) FROM hot").fetchone() == (100,)
    assert not [path for path in files_in(folder) if YESTERDAY in str(path)]
    assert not [path for path in files_held() if YESTERDAY in path]
    assert await shelf.times() == [NOON_MS + 2_000_000]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def files_held() -> list[str]:
    """Return what this process has open, also when it has no name any more; nothing where nobody can tell."""
    if sys.platform != "linux":
        return []
    return [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]


async def test_what_came_late_is_in_the_rollups_when_its_day_goes(shelf: Shelf) -> None:
    at_ms = NOON_MS - DAY_MS
    await shelf.add(sample(1, at_ms))
    await shelf.pack()
    await shelf.add(sample(2, at_ms + 1))
    await shelf.pack()
    await shelf.add(sample(3, at_ms + 2))
    await shelf.store.drop_before(Resolution.RAW, MIDNIGHT_MS)
    assert await shelf.times() == []
    for resolution in BUCKET_MS:
        assert [bucket[3] for bucket in (await shelf.gauge(resolution)).values()] == [3]


async def test_parts_of_an_ended_hour_become_one_chunk(shelf: Shelf, folder: Path) -> None:
    for minute in (5, 15, 25):
        await shelf.add(sample(minute, NOON_MS + minute * 60_000))
        await shelf.pack(NOON_MS + (minute + 1) * 60_000)
        await shelf.reopen()
    assert _chunks(folder) == [(2, "text")]  # each life counts its rounds anew: the part grows
    await shelf.pack(NOON_MS + 2 * HOUR_MS)
    assert _chunks(folder) == [(0, "blob")]
    await shelf.add(sample(1, NOON_MS), sample(2, NOON_MS + HOUR_MS))
    await shelf.pack(NOON_MS + 2 * HOUR_MS + LATE_MS)
    assert {kind for _part, kind in _chunks(folder)} == {"blob"}
    assert len(await shelf.times()) == 5


def _chunks(folder: Path) -> list[tuple[int, str]]:
    """Return part and kind of each."""
    with closing(sqlite3.connect(folder / TODAY)) as connection:
        return connection.execute("SELECT key & 255, typeof(body) FROM chunk ORDER BY key").fetchall()


async def test_rows_that_are_packed_meanwhile_are_not_seen_twice(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question copies the rows of a series first, and may find them packed when it looks at the disk."""
    await shelf.add(*(sample(seq) for seq in range(5)))
    assert isinstance(shelf.store, DayFiles)
    [day] = shelf.store._known_days()
    [series] = day.mirror.hot.series
    copied = day.mirror.hot.of(series)
    monkeypatch.setattr(Day, "delete_rows", fails)
    with pytest.raises(StoreFailed):
        await shelf.pack(NOON_MS + 60_000)
    monkeypatch.setattr(day.mirror, "rows_of", lambda _name: copied)
    assert len(await shelf.times()) == 5
    assert [bucket[3] for bucket in (await shelf.gauge(Resolution.HOUR)).values()] == [5]


def fails(_day: Day, _last_row: int) -> bool:
    raise sqlite3.OperationalError("disk I/O error")


async def test_any_number_of_lists_of_names_is_stored(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SHAPES_MAX", 2)
    for seq in range(6):
        await shelf.add(sample(seq, data={f"metric_{seq}": seq, "text": "x"}))
    async for _ in shelf.fates():
        found = await shelf.raw(*(f"metric_{seq}" for seq in range(6)))
        assert [values[seq] for seq, values in enumerate(found.values.values())] == list(range(6))
        assert (await shelf.newest(LATER_MS))["a1", "system"][1] == {"metric_5": 5, "text": "x"}


async def test_opening_takes_over_nothing_that_is_no_file_of_a_day(folder: Path, shelf: Shelf) -> None:
    await shelf.add(sample(1))
    await shelf.store.close()
    for name in ("notes.db", "2026-13-45.db"):
        (folder / "raw" / name).write_bytes(b"")
    await shelf.reopen()
    assert len(await shelf.times()) == 1
