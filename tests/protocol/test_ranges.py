from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ranges import SequenceRanges

SPANS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=25
)


@given(SPANS)
def test_ranges_hold_what_a_set_of_numbers_holds(spans: list[tuple[int, int]]) -> None:
    ranges = SequenceRanges()
    model: set[int] = set()
    for first, last in spans:
        ranges.add(first, last)
        model.update(range(first, last + 1))

        assert {number for number in range(80) if number in ranges} == model
        assert ranges.count() == len(model)
        assert ranges.newest == max(model)


@given(SPANS)
def test_ranges_are_ascending_and_apart(spans: list[tuple[int, int]]) -> None:
    listed = SequenceRanges(spans).to_list()

    assert all(first <= last for first, last in listed)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(listed))


@given(SPANS, st.randoms())
def test_the_order_of_arrival_makes_no_difference(spans: list[tuple[int, int]], random: Random) -> None:
    shuffled = list(spans)
    random.shuffle(shuffled)

    assert SequenceRanges(shuffled) == SequenceRanges(spans)


@given(SPANS)
def test_ranges_made_of_their_own_list_are_equal(spans: list[tuple[int, int]]) -> None:
    ranges = SequenceRanges(spans)

    assert SequenceRanges(ranges.to_list()) == ranges
    assert len(ranges) == len(ranges.to_list())
    assert list(ranges) == ranges.to_list()


def test_a_stream_without_gaps_is_one_range_whatever_its_length() -> None:
    ranges = SequenceRanges()
    for number in range(1, 10_001):
        ranges.add(number)

    assert ranges.to_list() == [(1, 10_000)]


def test_a_gap_is_closed_by_the_number_that_was_missing() -> None:
    ranges = SequenceRanges([(1, 3), (5, 7)])

    ranges.add(4)

    assert ranges.to_list() == [(1, 7)]


def test_no_ranges_hold_nothing() -> None:
    ranges = SequenceRanges()

    assert (len(ranges), ranges.count(), ranges.newest, ranges.to_list()) == (0, 0, 0, [])
    assert 1 not in ranges
    assert "1" not in ranges


def test_a_range_that_ends_before_it_starts_is_refused_and_changes_nothing() -> None:
    ranges = SequenceRanges([(1, 3)])

    with pytest.raises(ValueError, match=r"9\.\.8"):
        ranges.add(9, 8)

    assert ranges.to_list() == [(1, 3)]


def test_ranges_are_no_key_of_a_mapping_and_unequal_to_a_list() -> None:
    ranges = SequenceRanges([(1, 3)])

    with pytest.raises(TypeError):
        hash(ranges)
    assert ranges != [(1, 3)]
    assert repr(ranges) == "SequenceRanges([(1, 3)])"


@given(numbers=st.lists(st.integers(1, 60)))
def test_a_copy_is_changed_apart(numbers: list[int]) -> None:
    ranges = SequenceRanges((number, number) for number in numbers)

    again = ranges.copy()

    assert again == ranges
    again.add(100)
    assert 100 not in ranges
