"""Transactions of SQLite that share a commit: each commit waits for the disk, however little was written.

What comes while somebody writes waits together, and is one group when its turn comes. Groups and the others who write
take turns: a group that leaves some waiting asks again behind whoever asked meanwhile, so neither starves the other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct
from sqlalchemy import Connection, Engine

from hub_server.storage.turns import Turns

WORKS_A_GROUP: Final = 128

T = TypeVar("T")


class Done(Struct, Generic[T], frozen=True):
    value: T


class Failed(Struct, frozen=True):
    """`traceback`: as it was; whoever raises an error that others raise too adds nothing to theirs."""

    error: BaseException
    traceback: TracebackType | None = None


class _Caller(Generic[T]):
    def __init__(self, work: Callable[[Connection], T]) -> None:
        self.work: Final = work
        self.answer: Final[asyncio.Future[Done[T] | Failed]] = asyncio.get_running_loop().create_future()


class GroupCommit:
    """`engine`: begins transactions that write, and has no other user. `turns`: shared with who else writes."""

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self._engine = engine
        self._turns = turns
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database-writer")
        self._waiting: OrderedDict[_Caller[Any], None] = OrderedDict()
        self._has_asked = False

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns once it is committed; what it raises undoes its own changes alone.

        Works run in the order of the calls. Raises also what stopped the commit of its group. When the caller is
        cancelled, its work is left out unless its group has begun; that group goes on for the others.
        """
        caller = _Caller(work)
        self._waiting[caller] = None
        self._ask()
        try:
            outcome = await caller.answer
        finally:
            self._waiting.pop(caller, None)
        if isinstance(outcome, Done):
            return outcome.value
        try:
            raise outcome.error.with_traceback(outcome.traceback)
        finally:
            del caller, outcome  # the error's traceback holds this frame

    def close(self) -> None:
        """Wait for the group that runs. Called in a thread; who calls `transact` afterwards gets RuntimeError."""
        self._thread.shutdown()
        self._engine.dispose()

    def _ask(self) -> None:
        if not self._has_asked:
            self._has_asked = True
            self._turns.ask().add_done_callback(self._begin)

    def _begin(self, _turn: asyncio.Future[None]) -> None:
        self._has_asked = False
        group = self._next_group()
        if self._waiting:
            self._ask()
        if not group:
            self._turns.pass_on()
            return
        try:
            self._thread.submit(self._run, group, asyncio.get_running_loop())
        except RuntimeError as closed:
            self._finish(group, [Failed(closed)] * len(group))

    def _next_group(self) -> list[_Caller[Any]]:
        group: list[_Caller[Any]] = []
        while self._waiting and len(group) < WORKS_A_GROUP:
            caller, _ = self._waiting.popitem(last=False)
            if not caller.answer.done():
                group.append(caller)
        return group

    def _run(self, group: list[_Caller[Any]], loop: asyncio.AbstractEventLoop) -> None:
        """Run in the thread; `_finish` is called in the loop's next turn, without a future's turns in between."""
        try:
            outcomes = self._outcomes([caller.work for caller in group])
        except BaseException as error:  # noqa: BLE001  raised to everybody in the group
            outcomes = [Failed(error, error.__traceback__ if len(group) == 1 else None)] * len(group)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._finish, group, outcomes)

    def _outcomes(self, works: Sequence[Callable[[Connection], Any]]) -> list[Done[Any] | Failed]:
        with self._engine.begin() as connection:
            if len(works) == 1:  # what it raises undoes the transaction, which is its own
                return [Done(works[0](connection))]
            return [_attempt(connection, work) for work in works]

    def _finish(self, group: list[_Caller[Any]], outcomes: list[Done[Any] | Failed]) -> None:
        """Empties both: an error holds the frames that it came through, and those of the thread hold these lists."""
        self._turns.pass_on()
        _answer(group, outcomes)
        group.clear()
        outcomes.clear()


def _attempt(connection: Connection, work: Callable[[Connection], T]) -> Done[T] | Failed:
    """Run `work` so that what it raises undoes it alone. Raises it when SQLite undid the whole transaction."""
    savepoint = connection.begin_nested()
    try:
        value = work(connection)
        savepoint.commit()
    except Exception as error:  # one work is isolated: its caller gets what it raised
        driver = connection.connection.dbapi_connection
        if driver is None or not driver.in_transaction:
            raise
        savepoint.rollback()
        return Failed(error, error.__traceback__)
    return Done(value)


def _answer(group: Sequence[_Caller[Any]], outcomes: Sequence[Done[Any] | Failed]) -> None:
    for caller, outcome in zip(group, outcomes, strict=True):
        if not caller.answer.done():
            caller.answer.set_result(outcome)
