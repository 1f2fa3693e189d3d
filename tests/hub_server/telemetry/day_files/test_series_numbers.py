"""Numbers of series that are gone are not given again while rows of theirs are left."""

from pathlib import Path

from hub_server.telemetry.day_files.folder import DayFiles
from tests.hub_server.telemetry.contract.builders import MIDNIGHT_MS, Shelf, sample


async def test_nobody_is_given_the_samples_of_an_agent_that_was_deleted(tmp_path: Path) -> None:
    async with Shelf(lambda: DayFiles(folder=tmp_path / "metrics")).opened() as shelf:
        await shelf.add(sample(1, agent="stays"))
        await shelf.add(sample(1, agent="goes"), sample(2, agent="goes"))
        await shelf.store.pack(MIDNIGHT_MS + 86_400_000)  # packed, and its rows not deleted yet
        await shelf.store.delete_agent("o1", "goes")
        await shelf.reopen()
        await shelf.add(sample(9, agent="new", organisation="o2"))
        await shelf.reopen()
        assert len((await shelf.raw(agent="new", organisation="o2")).timestamps) == 1
