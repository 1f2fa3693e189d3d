"""What somebody with the database might do to the audit, at random, each with the rows that may be named for it."""

# ruff: noqa: S608  the names of tables and columns are the tables' own
from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from hub_server.audit.model import AuditEntry
from hub_server.audit.verification import CHECKPOINTS, ENTRIES, HEADS, verify_on
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.frames import Checkpoint
from tests.hub_server.audit.builders import HUBS, Signer

Named = tuple[str, int | None]
ENTRIES_A_CHAIN: Final = 20
CHECKPOINTS_AT: Final = (5, 10, 15)


class Mutation(msgspec.Struct, frozen=True):
    """`named`: the rows of `hub_id`'s chain that may be called the first bad one. `by_witness`: only it can tell."""

    what: str
    hub_id: str
    named: frozenset[Named]
    by_witness: bool = False


class Mutator:
    """Changes one thing on a connection whose transaction is rolled back afterwards."""

    def __init__(self, connection: AsyncConnection, chance: random.Random) -> None:
        self._connection = connection
        self._chance = chance
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._hub_id = chance.choice(HUBS)

    async def mutate(self) -> Mutation:
        kinds: Sequence[Callable[[], Awaitable[Mutation]]] = (
            self._change_value,
            self._change_value,
            self._change_value,
            self._delete_row,
            self._swap_rows,
            self._truncate,
            self._truncate_with_head,
            self._insert_entry,
            self._insert_in_the_middle,
            self._insert_checkpoint,
            self._insert_head,
            self._rewrite_history,
        )
        return await self._chance.choice(kinds)()

    async def _change_value(self) -> Mutation:
        table = TABLES[self._chance.choice((ENTRIES, HEADS, CHECKPOINTS))]
        column = self._chance.choice(list(table.c)).name
        place = self._place(table)
        before = await self._value(table, column, place)
        after = self._other(before)
        await self._set(table, place, column, after)
        if table.name == HEADS:
            # a head that names more checkpoints than there are looks as one whose checkpoints were deleted
            named: set[Named] = {(HEADS, None), (HEADS, _number(after)), (HEADS, ENTRIES_A_CHAIN)}
            named |= {(CHECKPOINTS, _number(after))} if column == "checkpoint" else set()
        else:
            named = {(table.name, place)}
            if column in {"number", "previous"}:
                named.add((table.name, _number(after)))
            if table.name == CHECKPOINTS and column == "number":
                named.add((CHECKPOINTS, None))
        return self._done(f"{table.name}.{column} of {place}: {before!r} → {after!r}", named)

    async def _delete_row(self) -> Mutation:
        table = TABLES[self._chance.choice((ENTRIES, HEADS, CHECKPOINTS))]
        place = self._place(table)
        await self._run(f"delete from {table.name} where {_where(table)}", place=place)
        return self._done(f"{table.name} {place} deleted", {(table.name, place)})

    async def _swap_rows(self) -> Mutation:
        table = TABLES[self._chance.choice((ENTRIES, CHECKPOINTS))]
        places = CHECKPOINTS_AT if table.name == CHECKPOINTS else range(1, ENTRIES_A_CHAIN + 1)
        one, other = sorted(self._chance.sample(list(places), 2))
        for place, to in ((one, -1), (other, one), (-1, other)):
            await self._set(table, place, "number", to)
        return self._done(f"{table.name} {one} and {other} swapped", {(table.name, one)})

    async def _truncate(self) -> Mutation:
        table = TABLES[self._chance.choice((ENTRIES, CHECKPOINTS))]
        first = self._place(table)
        assert first is not None
        await self._run(f"delete from {table.name} where hub_id = :hub and number >= :place", place=first)
        named = first if table.name == ENTRIES else CHECKPOINTS_AT[-1]
        return self._done(f"{table.name} cut off from {first}", {(table.name, named)})

    async def _truncate_with_head(self) -> Mutation:
        return await self.truncate_with_head(self._chance.randint(2, ENTRIES_A_CHAIN))

    async def truncate_with_head(self, first: int) -> Mutation:
        """Nothing in the tables tells when no checkpoint stands behind the cut: a witness does."""
        await self._run("delete from audit_entries where hub_id = :hub and number >= :place", place=first)
        last = await self._value(TABLES[ENTRIES], "hash", first - 1)
        moved = "update audit_heads set number = :place, hash = :hash where hub_id = :hub"
        await self._run(moved, place=first - 1, hash=last)
        return self._done(
            f"entries cut off from {first}, with the head", {(ENTRIES, first)}, by_witness=first > CHECKPOINTS_AT[-1]
        )

    async def _insert_entry(self) -> Mutation:
        """Behind the end; half of them with the hash that the hub would have given."""
        number, fits = ENTRIES_A_CHAIN + 1, self._chance.random() < 0.5
        entry = await self._entry(ENTRIES_A_CHAIN)
        entry = msgspec.structs.replace(entry, number=number, target="command:forged")
        previous = await self._value(TABLES[ENTRIES], "hash", ENTRIES_A_CHAIN)
        await self._add(entry, entry.hash_after(previous) if fits else "0" * 64)
        return self._done(f"entry put in, fits: {fits}", {(HEADS, ENTRIES_A_CHAIN)} if fits else {(ENTRIES, number)})

    async def _insert_in_the_middle(self) -> Mutation:
        place = self._chance.randint(2, ENTRIES_A_CHAIN)
        entry = await self._entry(place)
        previous = await self._value(TABLES[ENTRIES], "hash", place - 1)
        for number in range(ENTRIES_A_CHAIN, place - 1, -1):
            await self._set(TABLES[ENTRIES], number, "number", number + 1)
        forged = msgspec.structs.replace(entry, target="command:forged")
        await self._add(forged, forged.hash_after(previous))
        return self._done(f"entry put in before {place}", {(ENTRIES, place + 1)})

    async def _insert_checkpoint(self) -> Mutation:
        number = self._chance.choice([n for n in range(1, ENTRIES_A_CHAIN + 3) if n not in CHECKPOINTS_AT])
        await self._run(
            "insert into audit_checkpoints (hub_id, number, hash, at, previous, key_id, signature)"
            " select hub_id, :number, hash, at, :previous, key_id, signature from audit_checkpoints"
            " where hub_id = :hub and number = 5",
            number=number,
            previous=max((at for at in CHECKPOINTS_AT if at < number), default=0),
        )
        return self._done(f"checkpoint {number} put in", {(CHECKPOINTS, number)})

    async def _insert_head(self) -> Mutation:
        await self._run(
            "insert into audit_heads (hub_id, number, hash, checkpoint) values ('hub-c', 7, :hash, 0)", hash="0" * 64
        )
        return Mutation("head put in", "hub-c", frozenset({(ENTRIES, 1), (HEADS, 7)}))

    async def _rewrite_history(self) -> Mutation:
        """Every hash after the change fits, and the head too."""
        first = self._chance.randint(1, ENTRIES_A_CHAIN)
        previous = "" if first == 1 else await self._value(TABLES[ENTRIES], "hash", first - 1)
        for number in range(first, ENTRIES_A_CHAIN + 1):
            entry = await self._entry(number)
            if number == first:
                entry = msgspec.structs.replace(entry, actor="user:somebody-else")
                await self._set(TABLES[ENTRIES], number, "actor", entry.actor)
            previous = entry.hash_after(previous)
            await self._set(TABLES[ENTRIES], number, "hash", previous)
        await self._run("update audit_heads set hash = :hash where hub_id = :hub", hash=previous)
        signed = [at for at in CHECKPOINTS_AT if at >= first]
        named = signed[0] if signed else ENTRIES_A_CHAIN
        return self._done(f"history rewritten from {first}", {(ENTRIES, named)}, by_witness=not signed)

    def _done(self, what: str, named: set[Named], *, by_witness: bool = False) -> Mutation:
        return Mutation(f"{self._hub_id}: {what}", self._hub_id, frozenset(named), by_witness)

    def _place(self, table: Table) -> int | None:
        if table.name == HEADS:
            return None
        return (
            self._chance.choice(CHECKPOINTS_AT)
            if table.name == CHECKPOINTS
            else self._chance.randint(1, ENTRIES_A_CHAIN)
        )

    def _other(self, value: Any) -> Any:
        """Return another value: one byte of a text changed, another number, another moment."""
        chance = self._chance
        if isinstance(value, int):
            texts = ["x", "", "1e400"] if self._is_sqlite else []
            return chance.choice([value + 100, value - 100, -value - 1, 2**40 + value, *texts])
        if isinstance(value, datetime):
            return value + timedelta(microseconds=chance.choice([1, -1, 1000, 3_600_000_000]))
        raw = bytearray(value.encode())
        place = chance.randrange(len(raw))
        if self._is_sqlite:
            raw[place] ^= 1 << chance.randrange(8)
            return bytes(raw)
        letters = list(value)
        place = chance.randrange(len(letters))
        letters[place] = chance.choice([letter for letter in "zQ7/=~é" if letter != letters[place]])
        return "".join(letters)

    async def _set(self, table: Table, place: int | None, column: str, value: Any) -> None:
        """SQLite is given the bytes as text, also where they are no Unicode."""
        shown = "cast(:value as text)" if isinstance(value, bytes) else ":value"
        await self._run(f"update {table.name} set {column} = {shown} where {_where(table)}", place=place, value=value)

    async def _value(self, table: Table, column: str, place: int | None) -> Any:
        return (await self._run(f"select {column} from {table.name} where {_where(table)}", place=place)).scalar_one()

    async def _entry(self, number: int) -> AuditEntry:
        table = TABLES[ENTRIES]
        query = table.select().where(table.c.hub_id == self._hub_id, table.c.number == number)
        fields = dict((await self._connection.execute(query)).mappings().one())
        del fields["hash"]
        return AuditEntry(**fields)

    async def _add(self, entry: AuditEntry, entry_hash: str) -> None:
        await self._connection.execute(
            TABLES[ENTRIES].insert().values(**msgspec.structs.asdict(entry), hash=entry_hash)
        )

    async def _run(self, statement: str, **values: Any) -> Any:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        if ":hub" in statement:
            used["hub"] = self._hub_id
        return await self._connection.execute(text(statement), used)


TABLES: Final = {name: SQLModel.metadata.tables[name] for name in (ENTRIES, HEADS, CHECKPOINTS)}


def _where(table: Table) -> str:
    return "hub_id = :hub" if table.name == HEADS else "hub_id = :hub and number = :place"


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


class _Undone(Exception):
    pass


@asynccontextmanager
async def undone(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction that is rolled back when its block ends."""
    try:
        async with database.write(EVERY_ORGANISATION) as connection:
            yield connection
            raise _Undone
    except _Undone:
        pass


async def assert_found(database: Database, signer: Signer, witnesses: Sequence[Checkpoint], seed: int) -> str:
    """Mutate by `seed`, assert that it is found where it was made, and take it back. Return what it was."""
    async with undone(database) as connection:
        mutation = await Mutator(connection, random.Random(seed)).mutate()
        verdict = await verify_on(connection, signer.keys, witnesses if mutation.by_witness else ())
    of_chain = [fault for fault in verdict.faults if fault.hub_id == mutation.hub_id]
    assert of_chain, f"seed {seed}: not found: {mutation.what}"
    first = of_chain[0]
    assert (first.table, first.number) in mutation.named, f"seed {seed}: {mutation.what}, but {first}"
    return mutation.what
