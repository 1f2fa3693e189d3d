"""What an executor does not take from its daemon, which may be another user, and not a faithful one."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from agent_client.execution.desk import Desk
from agent_client.execution.places import ExecutorPlaces
from agent_client.execution.terms import TermsUnusable, settings_of
from agent_client.execution.wire import Channel, ChannelLost, ToExecutor, to_executor
from agent_client.paths import CONFIG, Places
from agent_client.store.secure import SecureStore
from tests.agent_client.clock import SteppingClock
from tests.agent_client.lives import Life

SETTINGS = {"agent_id": "agent-1", "organisation_id": "org-1", "trust_domain": "fleet"}


def channel_that_says(message: dict[str, Any]) -> Channel[ToExecutor]:
    reader = asyncio.StreamReader()
    said = msgspec.json.encode(message)
    reader.feed_data(len(said).to_bytes(4, "big") + said)
    reader.feed_eof()
    writer = Mock(asyncio.StreamWriter)
    writer.transport.get_write_buffer_size.return_value = 0
    return Channel(reader, writer, to_executor)


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, 1e300])
async def test_a_session_whose_patience_is_out_of_bounds_does_not_begin_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    begin = {"type": "begin", "session": 1, "said": [], "held_open": [], "window": 4, "ack_timeout_seconds": seconds}
    life = Life(tmp_path, SteppingClock())
    with caplog.at_level(logging.WARNING, "agent"), pytest.raises(ChannelLost):
        await Desk(life.jobs, channel_that_says(begin), life.clock).run()
    life.close()
    (line,) = caplog.records
    assert "ack_timeout_seconds" in str(vars(line))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("running_jobs_max", -1),
        ("running_jobs_max", 0),
        ("running_jobs_max", 10**9),
        ("kill_grace_seconds", -1),
        ("kill_grace_seconds", 1e300),
        ("executor_idle_seconds", 0),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_its_name(tmp_path: Path, key: str, value: float) -> None:
    places = Places.inside(tmp_path / "agent")
    SecureStore(places.config).save(CONFIG, msgspec.json.encode(SETTINGS | {key: value}))
    with pytest.raises(TermsUnusable, match=key):
        settings_of(places)


@pytest.mark.parametrize("content", [b"", b"nobody", b"\xff", None])
def test_a_lock_that_names_nobody_is_no_obstacle(tmp_path: Path, content: bytes | None) -> None:
    places = Places.inside(tmp_path / "agent")
    SecureStore(places.state).save(places.lock.name, b"1234")
    beside, apart = ExecutorPlaces.beside(places), ExecutorPlaces(tmp_path / "own", places)
    assert beside.daemons() == apart.daemons() == [1234]
    places.lock.unlink()
    if content is None:
        os.mkfifo(places.lock, 0o600)
    else:
        SecureStore(places.state).save(places.lock.name, content)
    assert beside.daemons() == apart.daemons() == []
