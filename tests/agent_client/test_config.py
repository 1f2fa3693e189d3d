import json
from typing import Any

import msgspec
import pytest

from agent_client.config import Config, ConfigError, NotEnrolled, load_config, save_config
from agent_client.paths import Places
from tests.agent_client.fleet import Fleet


@pytest.fixture
def config(fleet: Fleet, places: Places) -> Config:
    return fleet.enroll_by_hand(places, 3001)


def rewrite(places: Places, **changes: Any) -> None:
    path = places.config / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_saved_is_loaded(places: Places, config: Config) -> None:
    assert load_config(places) == config
    assert (places.config / "config.json").stat().st_mode & 0o777 == 0o600


def test_without_a_configuration_the_way_to_one_is_shown(places: Places) -> None:
    with pytest.raises(NotEnrolled, match="jtnt-agent enroll"):
        load_config(places)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"log_levle": "debug"}, "log_levle"),
        ({"log_level": "loud"}, "log_level"),
        ({"backoff_jitter": 1.5}, "backoff_jitter"),
        ({"agent_id": ""}, "agent_id"),
        ({"websocket_url": "ws://hub/ws/agents"}, "websocket_url"),
        ({"websocket_url": "https://hub/ws/agents"}, "websocket_url"),
        ({"spool_max_bytes": 10}, "spool_max_bytes"),
        ({"backoff_initial_seconds": 500}, "backoff_max_seconds"),
        ({"running_jobs_max": "8"}, "running_jobs_max"),
    ],
)
@pytest.mark.usefixtures("config")
def test_a_wrong_key_is_named(places: Places, changes: dict[str, Any], key: str) -> None:
    rewrite(places, **changes)
    with pytest.raises(ConfigError, match=key):
        load_config(places)


@pytest.mark.usefixtures("config")
def test_a_missing_key_is_named(places: Places) -> None:
    path = places.config / "config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "hub_url"}))
    with pytest.raises(ConfigError, match="hub_url"):
        load_config(places)


@pytest.mark.usefixtures("config")
def test_what_is_no_json_is_said_to_be_none(places: Places) -> None:
    (places.config / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        load_config(places)


def test_a_wrong_value_is_not_saved(places: Places, config: Config) -> None:
    with pytest.raises(ConfigError, match="slow_lane_seconds"):
        save_config(places, msgspec.structs.replace(config, slow_lane_seconds=-1.0))
    assert load_config(places) == config


@pytest.mark.parametrize(
    ("platform", "config", "certs"),
    [
        ("linux", "/etc/jtnt-agent", "/var/lib/jtnt-agent/certs"),
        ("darwin", "/Library/Application Support/JTNT/Agent", "/Library/Application Support/JTNT/Agent/certs"),
        ("win32", r"C:\ProgramData/JTNT/Agent", r"C:\ProgramData/JTNT/Agent/certs"),
    ],
)
def test_each_system_has_its_places(monkeypatch: pytest.MonkeyPatch, platform: str, config: str, certs: str) -> None:
    monkeypatch.delenv("PROGRAMDATA", raising=False)
    places = Places.of_system(platform)
    assert (str(places.config), str(places.certs)) == (config, certs)
