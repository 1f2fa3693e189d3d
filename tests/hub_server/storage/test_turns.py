"""Turns come in the order of asking, and none is lost."""

from __future__ import annotations

import asyncio

from hub_server.storage.turns import Turns


async def test_who_is_cancelled_as_the_turn_comes_passes_it_on() -> None:
    turns = Turns()
    order: list[str] = []

    async def take(name: str) -> None:
        async with turns.taken():
            order.append(name)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        async with turns.taken():
            waiting = {name: tasks.create_task(take(name), name=name) for name in "abcd"}
            await asyncio.sleep(0)
            waiting["b"].cancel()
        waiting["a"].cancel()
        await asyncio.sleep(0)
        tasks.create_task(take("e"), name="e")
    assert order == ["c", "d", "e"]
    assert turns.ask().done()


async def test_what_raises_ends_its_turn() -> None:
    turns = Turns()
    try:
        async with turns.taken():
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert turns.ask().done()
    assert not turns.ask().done()
