"""A name says which day or month, and a moment which name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.telemetry.partitions.periods import (
    DAY_MS,
    MOMENT_MAX_MS,
    PARENTS,
    Partition,
    partition_named,
    partition_of,
)
from tests.hub_server.telemetry.contract.builders import MIDNIGHT_MS


@given(parent=st.sampled_from(sorted(PARENTS)), moment_ms=st.integers(0, MOMENT_MAX_MS - 32 * DAY_MS))
def test_a_moment_is_in_its_period_and_the_name_leads_back(parent: str, moment_ms: int) -> None:
    found = partition_of(parent, moment_ms)
    assert found.from_ms <= moment_ms < found.to_ms
    assert partition_named(found.name) == found
    assert partition_of(parent, found.to_ms - 1) == found
    assert partition_of(parent, found.to_ms).from_ms == found.to_ms


def test_a_day_and_a_month_are_named_as_people_write_them() -> None:
    assert partition_of("metric_samples", MIDNIGHT_MS) == Partition(
        "metric_samples", "metric_samples_20261122", MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS
    )
    month = partition_of("metric_rollups_5m", MIDNIGHT_MS)
    assert (month.name, month.to_ms - month.from_ms) == ("metric_rollups_5m_202611", 30 * DAY_MS)


@pytest.mark.parametrize("moment_ms", [-1, MOMENT_MAX_MS, 2**53, 2**63])
def test_a_moment_of_no_calendar_is_refused(moment_ms: int) -> None:
    with pytest.raises(ValueError, match="no day"):
        partition_of("metric_samples", moment_ms)


@pytest.mark.parametrize(
    "name", ["metric_samples", "metric_newest_20261122", "metric_samples_202611", "metric_rollups_5m_20261122", "users"]
)
def test_other_names_are_no_partitions(name: str) -> None:
    assert partition_named(name) is None
