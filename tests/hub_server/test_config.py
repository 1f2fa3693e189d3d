import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from hub_server import config
from hub_server.config import ConfigError, Settings, load


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WEBSOCKET_URL", "CORS_ORIGIN", *(f"JTNT_{key.upper()}" for key in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hub.toml"
    path.write_text(text)
    return path


def test_nothing_said_it_is_a_hub_on_loopback() -> None:
    settings = load()
    assert settings.resolved_database_url == "sqlite+aiosqlite:///var/hub.db"
    assert settings.agent_websocket_url == "wss://127.0.0.1:3001/ws/agents"
    assert settings.join_host_port == ("127.0.0.1", 3001)
    assert settings.web_url == "http://localhost:3000"
    assert settings.web_origins == {"http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000"}


def test_the_file_is_found_in_the_data_folder(tmp_path: Path) -> None:
    written(tmp_path, '[people]\nport = 8080\n[public]\nagent_url = "https://hub.example:4001"\n')
    settings = load(data_dir=tmp_path)
    assert settings.people.port == 8080
    assert settings.join_host_port == ("hub.example", 4001)
    assert settings.server_names == ("hub.example", "127.0.0.1")
    assert settings.data_dir == tmp_path


def test_the_environment_is_above_the_file_and_the_command_line_above_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, 'data_dir = "file"\nlog_level = "error"\n[people]\nport = 1\nhost = "localhost"\n')
    monkeypatch.setenv("JTNT_DATA_DIR", "environment")
    monkeypatch.setenv("JTNT_PEOPLE__PORT", "2")
    settings = load(config=path, data_dir=Path("command"))
    assert (settings.data_dir, settings.people.port) == (Path("command"), 2)
    assert (settings.people.host, settings.log_level) == ("localhost", "error")
    assert load(config=path).data_dir == Path("environment")


def test_the_seeds_names_are_read_where_nothing_else_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKET_URL", "wss://hub.example")
    monkeypatch.setenv("CORS_ORIGIN", "https://one.example, https://two.example:8443/")
    settings = load()
    assert settings.agent_websocket_url == "wss://hub.example:443/ws/agents"
    assert {"https://one.example", "https://two.example:8443"} < settings.web_origins
    monkeypatch.setenv("JTNT_PUBLIC__AGENT_URL", "https://other.example:3001")
    assert load().join_host_port.host == "other.example"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[people]\nprot = 1\n", "unknown setting people.prot"),
        ("poeple = 1\n", "unknown setting poeple"),
        ("[people]\nport = 70000\n", "people.port: "),
        ("[people]\nport = 'x'\n", "people.port: "),
        ("[access]\naccess_token_seconds = 1\n", "access.access_token_seconds: "),
        ("log_level = 'loud'\n", "log_level: "),
        ("database_url = 'mysql://x'\n", "database_url: expected postgresql"),
        ("[public]\nagent_url = 'http://hub'\n", "public.agent_url: expected https://host:port"),
        ("[people]\nallowed_origins = ['https://x/page']\n", "people.allowed_origins: expected an origin"),
        ("[people]\ncertificate = 'x.pem'\n", "people: certificate and key belong together"),
        ("[pki]\ntrust_domain = 'a/b'\n", "pki.trust_domain: "),
        ("[people\n", "is no TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(config=written(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("JTNT_PEOPLE__PROT", "unknown setting people.prot"),
        ("JTNT_PEPOLE__PORT", "JTNT_PEPOLE__PORT names no setting; did you mean JTNT_PEOPLE"),
        ("JTNT_LOGLEVEL", "did you mean JTNT_LOG_LEVEL"),
        ("JTNT_SOMETHING__ELSE", "names no setting"),
    ],
)
def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=re.escape(said)):
        load()


def test_a_variable_of_another_program_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JTNT_CHROMIUM", "/usr/bin/chromium")
    load()


def test_passwords_do_not_travel_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plain HTTP on 0\.0\.0\.0.*trusted_proxies"):
        load(config=written(tmp_path, "[people]\nhost = '0.0.0.0'\n"))
    load(config=written(tmp_path, "[people]\nhost = '0.0.0.0'\ntrusted_proxies = ['10.0.0.0/8']\n"))
    https = load(config=written(tmp_path, "[people]\nhost = '::'\ncertificate = 'c'\nkey = 'k'\n"))
    assert https.web_is_https
    for loopback in ("127.0.0.2", "::1", "localhost"):
        assert not load(config=written(tmp_path, f"[people]\nhost = '{loopback}'\n")).web_is_https


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no settings file"):
        load(config=tmp_path / "none.toml")


def test_settings_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().people.port = 5


def test_every_section_says_what_it_is() -> None:
    sections = [field.annotation for field in Settings.model_fields.values()]
    for section in sections:
        if isinstance(section, type) and issubclass(section, BaseModel):
            assert section.__doc__
    assert config.__doc__ is not None
    assert "JWT_SECRET" in config.__doc__
