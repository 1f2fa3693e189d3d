from hypothesis import given
from hypothesis import strategies as st

from agent_client.backoff import AttemptFailed, Cause, Pace, PersonNeeded, SessionLost, TimeGiven, next_wait

PACE = Pace(first_retry_spread_seconds=30, initial_seconds=30, max_seconds=900, jitter=0.2, slow_lane_seconds=900)
DRAWS = st.floats(0, 1, exclude_max=True)
CAUSES: st.SearchStrategy[Cause] = st.one_of(
    st.builds(SessionLost, st.booleans()),
    st.builds(AttemptFailed),
    st.builds(TimeGiven, st.floats(-10, 10_000)),
    st.builds(PersonNeeded),
)


def test_repeated_failures_double_from_thirty_seconds_to_fifteen_minutes() -> None:
    waits, failures = [], 0
    for _ in range(8):
        wait = next_wait(PACE, failures, AttemptFailed(), draw=0.5)
        waits.append(wait.seconds)
        failures = wait.failures
    assert waits == [30, 30, 60, 120, 240, 480, 900, 900]


def test_the_first_retry_after_a_lost_session_is_spread_evenly_over_thirty_seconds() -> None:
    waits = [next_wait(PACE, 0, SessionLost(was_stable=True), draw).seconds for draw in (0.0, 0.5, 0.999)]
    assert waits == [0.0, 15.0, 29.97]


def test_a_session_lost_before_its_stable_minute_does_not_reset_the_backoff() -> None:
    assert next_wait(PACE, 4, SessionLost(was_stable=False), 0.5).seconds == 240
    assert next_wait(PACE, 4, SessionLost(was_stable=True), 0.5).seconds == 15


def test_the_slow_lane_is_fifteen_minutes_whatever_went_before() -> None:
    assert {next_wait(PACE, failures, PersonNeeded(), 0.5).seconds for failures in range(20)} == {900}


@given(st.floats(0, 900), DRAWS)
def test_the_hubs_time_is_never_undercut_and_the_agents_are_spread_after_it(seconds: float, draw: float) -> None:
    assert seconds <= next_wait(PACE, 3, TimeGiven(seconds), draw).seconds <= seconds * 1.2


@given(st.integers(0, 100_000), CAUSES, DRAWS)
def test_no_wait_is_negative_or_longer_than_the_longest_with_its_jitter(
    failures: int, cause: Cause, draw: float
) -> None:
    assert 0 <= next_wait(PACE, failures, cause, draw).seconds <= 900 * 1.2


@given(st.lists(CAUSES, max_size=30), DRAWS)
def test_failures_are_counted_until_a_stable_session(causes: list[Cause], draw: float) -> None:
    failures = 0
    for cause in causes:
        before, failures = failures, next_wait(PACE, failures, cause, draw).failures
        is_reset = isinstance(cause, SessionLost) and (cause.was_stable or before == 0)
        assert failures == (1 if is_reset else before + 1)
