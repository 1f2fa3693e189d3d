"""What agents say of their commands on its way into the database: gathered while a commit runs, stored by the next.

An agent says everything again that the hub did not acknowledge, and what is here is acknowledged after its commit: a
hub that is killed loses nothing of it. What one command's agent says is stored in the order in which it was said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.clock import Clock
from hub_server.commands.engine import WAITING_BYTES_MAX, Finished, IllegalStep, Signal, advance
from hub_server.commands.model import Command
from hub_server.commands.store import CommandStore
from hub_server.storage.engine import Database, scope_of
from protocol.enumerations import OutputStream

log = structlog.get_logger(component="commands")

COMMANDS_A_COMMIT: Final = 256
BYTES_A_COMMIT: Final = 2 * 1024 * 1024
BYTES_A_ROW: Final = 256 * 1024
ENTRIES_MAX: Final = 50_000
CHARS_AN_ENTRY: Final = 256
"""So much of a result's text counts as an entry more: results are never kept out by output that waits."""
RACES_MAX: Final = 20
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_MAX_SECONDS: Final = 5.0

T = TypeVar("T")


class Step(Struct, frozen=True, kw_only=True):
    """A signal of an agent. `is_own`: the command is known to be its own. `is_shown`: people were told of it."""

    organisation_id: str
    agent_id: str
    command_id: str
    signal: Signal
    is_own: bool = False
    is_shown: bool = False

    @property
    def key(self) -> str:
        """Return with what it is stored. What anybody may say of a command stands in the way of none of its own."""
        return self.command_id if self.is_own else f"{self.agent_id} {self.command_id}"


class Piece(Struct, frozen=True, kw_only=True):
    """New bytes of a stream of an agent's own command, from `start` on, perhaps none. Stored, they are acknowledged up
    to `ack_offset`.
    """

    organisation_id: str
    agent_id: str
    command_id: str
    stream: OutputStream
    start: int
    data: bytes
    ack_offset: int
    truncated: bool = False

    @property
    def key(self) -> str:
        return self.command_id


Entry = Step | Piece
Entries = Mapping[str, Sequence[Entry]]
"""`key` → what was said of one command, in order."""


class Taken(Struct, frozen=True):
    """What a commit made of one step: `before` is `after` where it changed nothing."""

    step: Step
    before: Command
    after: Command


class Stored(Struct, frozen=True):
    """What a commit made of what was said of one command. `ends`: up to where each stream is acknowledged.

    `is_in_doubt`: some of its output was not stored, because somebody else had stored other bytes of it, or because the
    database refuses it for good; the latter is not acknowledged.
    """

    entries: Sequence[Entry]
    steps: Sequence[Taken] = ()
    ends: Mapping[OutputStream, int] = {}
    is_in_doubt: bool = False
    is_acknowledged: bool = True


class RaceLost(Exception):
    """A command that is changed by others faster than it is read."""


class Recorder:
    """`stored` is told of each command of a commit, once it has happened."""

    def __init__(
        self, *, database: Database, clock: Clock, store: CommandStore, stored: Callable[[Stored], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._store = store
        self._stored = stored
        self._waiting: dict[str, list[Entry]] = {}
        self._storing: Entries = {}
        self._lock = asyncio.Lock()
        self._bell = asyncio.Event()
        self._commands_a_commit = COMMANDS_A_COMMIT
        self._entries = 0
        self.waiting_bytes = 0
        self.commits = 0
        self.failed_commits = 0

    def has_room(self, size_bytes: int) -> bool:
        """Return whether so much more output may wait."""
        return self.waiting_bytes + size_bytes <= WAITING_BYTES_MAX and self._entries < ENTRIES_MAX

    def add(self, entry: Entry) -> bool:
        """Return False when too much waits already: the agent says it again."""
        if self._entries >= ENTRIES_MAX:
            return False
        self._waiting.setdefault(entry.key, []).append(entry)
        self._count([entry], 1)
        self._bell.set()
        return True

    def of(self, key: str) -> Iterator[Entry]:
        """Return what was said of a command by its agent and is not stored, in order."""
        yield from self._storing.get(key, ())
        yield from self._waiting.get(key, ())

    async def run(self) -> None:
        pause_seconds = RETRY_FIRST_SECONDS
        while True:
            await self._bell.wait()
            await asyncio.sleep(0)  # people are told first, and what is read meanwhile joins the commit
            self._bell.clear()
            while self._waiting:
                try:
                    async with self._lock:
                        await self._record(self._next_batch())
                    pause_seconds = RETRY_FIRST_SECONDS
                except (DBAPIError, PoolTimeout, OSError, RaceLost) as error:
                    log.warning("what agents say of commands is not stored; tried again", error=str(error)[:500])
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, RETRY_MAX_SECONDS)

    async def settle(self, command_id: str) -> None:
        """Return when everything that was said of a command so far is stored. Raises what the database raises."""
        if not any(True for _ in self.of(command_id)):
            return
        async with self._lock:
            if command_id in self._waiting:
                await self._record([command_id])

    async def flush(self) -> None:
        """Store all that waits. Raises what the database raises."""
        async with self._lock:
            while self._waiting:
                await self._record(self._next_batch())

    def _next_batch(self) -> list[str]:
        batch: list[str] = []
        size_bytes = 0
        for key, entries in self._waiting.items():
            size_bytes += sum(map(_bytes_in, entries))
            if batch and (size_bytes > BYTES_A_COMMIT or len(batch) >= self._commands_a_commit):
                break
            batch.append(key)
        return batch

    async def _record(self, keys: Sequence[str]) -> None:
        """Store what waits of these commands in one commit. When it fails all of it waits again.

        Where the database refuses the values themselves, each command is tried alone, and what is refused then is
        dropped: it is never acknowledged.
        """
        batch: Entries = {key: self._waiting.pop(key) for key in keys}
        self._storing, is_done = batch, False
        try:
            stored = await self._write(batch)
            is_done = True
        except (DataError, IntegrityError) as error:
            self.failed_commits += 1
            self._commands_a_commit = 1
            if len(batch) == 1:
                log.error("the database refuses what an agent said of a command", error=str(error)[:500])
                stored, is_done = [Stored(batch[keys[0]], is_in_doubt=True, is_acknowledged=False)], True
            else:
                return
        except (DBAPIError, PoolTimeout, OSError, RaceLost):
            self.failed_commits += 1
            self._commands_a_commit = 1
            raise
        finally:
            self._storing = {}
            if is_done:
                for entries in batch.values():
                    self._count(entries, -1)
            else:
                self._put_back(batch)
        self._commands_a_commit = min(COMMANDS_A_COMMIT, 2 * self._commands_a_commit)
        self.commits += 1
        for each in stored:
            self._stored(each)

    async def _write(self, batch: Entries) -> list[Stored]:
        if all(not _has_news(entry) for entries in batch.values() for entry in entries):
            return [Stored(entries, ends=_ends_of(entries)) for entries in batch.values()]
        scope = scope_of(entry.organisation_id for entries in batch.values() for entry in entries)
        return await self._database.transact(scope, partial(self._write_within, batch, self._clock.now()))

    def _write_within(self, batch: Entries, now: datetime, connection: Connection) -> list[Stored]:
        """In the order of ids, so that two hubs never wait for each other."""
        stored = {key: self._write_one(connection, batch[key], now) for key in sorted(batch)}
        return [stored[key] for key in batch]

    def _write_one(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> Stored:
        first = entries[0]
        command = self._store.find(connection, first.organisation_id, first.command_id)
        if command is None or command.agent_id != first.agent_id:
            log.warning("not a command of this agent", agent_id=first.agent_id, command_id=first.command_id)
            return Stored(entries, ends=_ends_of(entries))
        refused: dict[OutputStream, int] = {}
        for piece in _joined(entries):
            if piece.stream not in refused and not self._add_output(connection, piece):
                sizes = self._store.output_sizes(connection, piece.organisation_id, [piece.command_id])
                refused[piece.stream] = sizes[piece.command_id][piece.stream]
        steps = changed_within(connection, self._store, command, partial(_folded, entries), now)
        return Stored(entries, steps, {**_ends_of(entries), **refused}, is_in_doubt=bool(refused))

    def _add_output(self, connection: Connection, piece: Piece) -> bool:
        return self._store.add_output(
            connection, piece.organisation_id, piece.command_id, piece.stream, offset=piece.start, data=piece.data
        )

    def _put_back(self, batch: Entries) -> None:
        """One command that failed alone lets the others go first."""
        later = self._waiting
        again = {key: [*entries, *later.pop(key, ())] for key, entries in batch.items()}
        self._waiting = again | later if len(again) > 1 else later | again
        self._bell.set()

    def _count(self, entries: Sequence[Entry], sign: int) -> None:
        self._entries += sign * sum(map(_weight_of, entries))
        self.waiting_bytes += sign * sum(map(_bytes_in, entries))


def changed_within(
    connection: Connection,
    store: CommandStore,
    command: Command,
    change: Callable[[Command], tuple[T, Command]],
    now: datetime,
) -> T:
    """Save what `change` makes of `command`, as it was just read, and return its other answer. `now`: the hub's time.

    Whoever has changed the command since then wins: it is read again, and `change` asked again. Raises RaceLost.
    """
    for _ in range(RACES_MAX):
        answer, after = change(command)
        if after is command or store.save(connection, command, after, now):
            return answer
        found = store.find(connection, command.organisation_id, command.id)
        if found is None:
            return answer
        command = found
    raise RaceLost(f"command {command.id} is changed by somebody else all the time")


def step_of(command: Command, signal: Signal) -> Command:
    """Return `command` after `signal`; as it is when the signal is out of order."""
    try:
        return advance(command, signal)
    except IllegalStep as illegal:
        log.warning("signal ignored", agent_id=command.agent_id, command_id=command.id, error=str(illegal))
        return command


def _folded(entries: Sequence[Entry], command: Command) -> tuple[list[Taken], Command]:
    taken: list[Taken] = []
    for entry in entries:
        match entry:
            case Step():
                after = step_of(command, entry.signal)
                taken.append(Taken(entry, command, after))
                command = after
            case Piece(truncated=True) if not command.truncated:
                command = msgspec.structs.replace(command, truncated=True, version=command.version + 1)
            case _:
                pass
    return taken, command


def _joined(entries: Sequence[Entry]) -> Iterator[Piece]:
    """Return the new bytes, those that follow each other as one piece of BYTES_A_ROW at most."""
    open_pieces: dict[OutputStream, list[Piece]] = {}
    for piece in entries:
        if not isinstance(piece, Piece) or not piece.data:
            continue
        run = open_pieces.setdefault(piece.stream, [])
        length = sum(len(other.data) for other in run)
        if run and (piece.start != run[0].start + length or length + len(piece.data) > BYTES_A_ROW):
            yield _as_one(run)
            run.clear()
        run.append(piece)
    for run in open_pieces.values():
        yield _as_one(run)


def _as_one(run: Sequence[Piece]) -> Piece:
    return run[0] if len(run) == 1 else msgspec.structs.replace(run[0], data=b"".join(piece.data for piece in run))


def _ends_of(entries: Sequence[Entry]) -> dict[OutputStream, int]:
    ends: dict[OutputStream, int] = {}
    for piece in entries:
        if isinstance(piece, Piece):
            ends[piece.stream] = max(piece.ack_offset, ends.get(piece.stream, 0))
    return ends


def is_end(entry: Entry) -> bool:
    return isinstance(entry, Step) and isinstance(entry.signal, Finished)


def _has_news(entry: Entry) -> bool:
    return isinstance(entry, Step) or bool(entry.data) or entry.truncated


def _bytes_in(entry: Entry) -> int:
    return len(entry.data) if isinstance(entry, Piece) else 0


def _weight_of(entry: Entry) -> int:
    """Return as how many entries it counts."""
    if isinstance(entry, Step) and isinstance(entry.signal, Finished):
        return 1 + len(entry.signal.result) // CHARS_AN_ENTRY
    return 1
