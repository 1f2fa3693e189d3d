"""Whose turn it is to write: one at a time, in the order of asking."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """For those who wait in one event loop; unlike a lock, it can also be asked for where nothing can be awaited."""

    def __init__(self) -> None:
        self._is_taken = False
        self._asked: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def ask(self) -> asyncio.Future[None]:
        """Return what is done once it is the asker's turn, who then says `pass_on`."""
        turn = asyncio.get_running_loop().create_future()
        if self._is_taken:
            self._asked[turn] = None
        else:
            self._is_taken = True
            turn.set_result(None)
        return turn

    def pass_on(self) -> None:
        """End the turn; whoever asked next has it from now on."""
        while self._asked:
            turn, _ = self._asked.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        turn = self.ask()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._asked.pop(turn, None)
            else:
                self.pass_on()  # it came at the same time
            raise
        try:
            yield
        finally:
            self.pass_on()
