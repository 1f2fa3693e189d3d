"""The times of the hub's keys, from its settings."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from hub_server.config import PkiSettings, Settings
from hub_server.opening import lifetimes_of, round_seconds_of
from hub_server.pki.engine import Lifetimes
from protocol.limits import COMMAND_EXPIRY_MAX_SECONDS


def test_the_defaults_are_those_of_the_engine() -> None:
    assert lifetimes_of(Settings()) == Lifetimes()
    assert Lifetimes().job == timedelta(seconds=COMMAND_EXPIRY_MAX_SECONDS)
    assert round_seconds_of(Settings()) == 60.0


def test_short_times_are_looked_after_oftener() -> None:
    pki = PkiSettings(
        agent_certificate_seconds=20, server_certificate_seconds=12, overlap_seconds=8, issuing_seconds=120
    )
    assert round_seconds_of(Settings(pki=pki)) == 1.0
    assert lifetimes_of(Settings(pki=pki)).overlap == timedelta(seconds=8)


@pytest.mark.parametrize(
    "times",
    [
        {"agent_certificate_seconds": 200 * 86400},
        {"server_certificate_seconds": 180 * 86400},
        {"issuing_seconds": 86400},
    ],
)
def test_times_that_leave_no_room_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="twice as long"):
        PkiSettings.model_validate(times)
