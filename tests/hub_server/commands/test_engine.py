"""The life of a command, the bytes that are kept of it, and the pages they are shown in."""

from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub_server.commands.engine import (
    STEPS,
    Accepted,
    CancelRequested,
    Dispatched,
    Expired,
    Finished,
    IllegalStep,
    Lost,
    NeverBegun,
    NeverSent,
    Signal,
    Started,
    advance,
    kept_of,
    page_of,
)
from hub_server.commands.model import Command
from protocol.enumerations import CommandOutcome, CommandReason, CommandStatus, TextEncoding
from tests.hub_server.commands.builders import command

AT = datetime(2026, 11, 22, 12, 1, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 12, 2, tzinfo=UTC)
SIGNALS: tuple[Signal, ...] = (
    Dispatched(AT),
    Accepted(),
    Started(AT),
    Finished(outcome=CommandOutcome.COMPLETED, at=AT, exit_code=0),
    Finished(outcome=CommandOutcome.FAILED, at=AT, exit_code=3, reason=CommandReason.EXIT_CODE),
    Finished(outcome=CommandOutcome.CANCELLED, at=AT, reason=CommandReason.CANCELLED_BY_PERSON),
    Expired(AT),
    NeverSent(AT),
    CancelRequested(AT),
    NeverBegun(AT),
    Lost(AT),
)


def after(*signals: Signal) -> Command:
    state = command()
    for signal in signals:
        state = advance(state, signal)
    return state


def test_the_usual_life() -> None:
    done = after(Dispatched(AT), Accepted(), Started(AT), Finished(outcome=CommandOutcome.COMPLETED, at=LATER))
    assert (done.status, done.sent_at, done.started_at, done.finished_at) == (CommandStatus.COMPLETED, AT, AT, LATER)
    assert done.version == 4


def test_what_is_said_again_changes_nothing() -> None:
    sent = after(Dispatched(AT))
    assert advance(sent, Dispatched(LATER)) is sent
    executing = advance(sent, Started(AT))
    assert advance(executing, Started(LATER)) is executing
    assert advance(executing, Accepted()) is executing


def test_a_waiting_command_is_cancelled_at_once_and_a_sent_one_by_its_agent() -> None:
    waiting = after(CancelRequested(AT))
    assert (waiting.status, waiting.reason) == (CommandStatus.CANCELLED, CommandReason.CANCELLED_BY_PERSON)
    sent = after(Dispatched(AT), CancelRequested(AT))
    assert (sent.status, sent.cancel_requested) == (CommandStatus.SENT, True)
    never = advance(sent, NeverBegun(LATER))
    assert (never.status, never.finished_at) == (CommandStatus.CANCELLED, LATER)


def test_nobody_invents_how_a_lost_command_ended() -> None:
    lost = after(Dispatched(AT), Started(AT), Lost(LATER))
    assert (lost.status, lost.reason, lost.exit_code) == (CommandStatus.FAILED, CommandReason.UNKNOWN, None)


def test_a_command_that_another_hub_sent_meanwhile_does_not_expire_unasked() -> None:
    assert after(NeverSent(AT)).reason is CommandReason.EXPIRED
    with pytest.raises(IllegalStep):
        advance(after(Dispatched(AT)), NeverSent(LATER))


def test_a_command_that_runs_does_not_expire() -> None:
    executing = after(Dispatched(AT), Started(AT))
    for signal in (Expired(LATER), Dispatched(LATER), NeverBegun(LATER)):
        with pytest.raises(IllegalStep):
            advance(executing, signal)


def test_every_step_of_the_table_is_taken_and_every_other_refused() -> None:
    open_statuses = (CommandStatus.PENDING, CommandStatus.SENT, CommandStatus.EXECUTING)
    for status, signal in itertools.product(open_statuses, SIGNALS):
        state = command(status=status)
        if (status, type(signal)) not in STEPS:
            with pytest.raises(IllegalStep):
                advance(state, signal)
            continue
        wanted = STEPS[status, type(signal)]
        if isinstance(signal, Finished):
            wanted = CommandStatus(signal.outcome.value)
        assert advance(state, signal).status is wanted


@given(signals=st.lists(st.sampled_from(SIGNALS), max_size=12))
def test_the_first_end_wins(signals: list[Signal]) -> None:
    state = command()
    for signal in signals:
        before = state
        try:
            state = advance(state, signal)
        except IllegalStep:
            assert not before.has_ended
            continue
        if before.has_ended:
            assert state is before
        assert state.version == before.version + (state is not before)
        assert state.has_ended == (state.finished_at is not None)


LIMIT = 40
chunks = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=40)


@given(sent=chunks)
def test_output_is_kept_once_without_gaps_up_to_the_limit(sent: list[tuple[int, int]]) -> None:
    """Chunks of one true output, in any order, repeated and overlapping."""
    output = bytes(range(80))
    stored = b""
    truncated = False
    for offset, size in sent:
        before = len(stored)
        kept = kept_of(output[offset : offset + size], offset=offset, held_bytes=before, limit_bytes=LIMIT)
        stored += kept.data
        truncated = truncated or kept.truncated
        assert output.startswith(stored)
        assert kept.offset == len(stored) or (len(stored) == LIMIT and kept.offset == max(LIMIT, offset + size))
        if offset > before and before < LIMIT:
            assert (kept.data, kept.offset) == (b"", before)
        if truncated:
            assert len(stored) == LIMIT
    assert len(stored) <= LIMIT


def pages_of(data: bytes, page_bytes: int) -> list[tuple[TextEncoding, bytes]]:
    pages = []
    offset = 0
    while offset < len(data):
        part = data[offset : offset + page_bytes]
        page = page_of(part, is_end=offset + len(part) == len(data))
        raw = page.data.encode() if page.encoding is TextEncoding.UTF8 else base64.b64decode(page.data)
        assert raw == part[: page.bytes_shown]
        assert raw
        pages.append((page.encoding, raw))
        offset += page.bytes_shown
    return pages


@given(text=st.text(alphabet="aé€😀", max_size=60), page_bytes=st.integers(4, 16))
def test_no_page_splits_a_character(text: str, page_bytes: int) -> None:
    pages = pages_of(text.encode(), page_bytes)
    assert b"".join(raw for _, raw in pages).decode() == text
    assert all(encoding is TextEncoding.UTF8 for encoding, _ in pages)


@given(data=st.binary(max_size=60), page_bytes=st.integers(4, 16))
@example(data="é".encode()[:1], page_bytes=4)
@example(data=b"ab\0", page_bytes=4)
def test_pages_of_any_bytes_are_the_bytes(data: bytes, page_bytes: int) -> None:
    assert b"".join(raw for _, raw in pages_of(data, page_bytes)) == data


def test_a_character_that_is_not_whole_yet_waits() -> None:
    assert page_of("é".encode()[:1], is_end=False).bytes_shown == 0
    assert page_of("é".encode()[:1], is_end=True).encoding is TextEncoding.BASE64
