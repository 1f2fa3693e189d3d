"""The hub's settings: a TOML file, over it environment variables, over both what the command line says.

`JTNT_DATA_DIR=/var/lib/jtnt` sets `data_dir`, `JTNT_PEOPLE__PORT=8080` sets `port` of the table `[people]`. Seed 004's
`WEBSOCKET_URL` and `CORS_ORIGIN` are read where nothing else says the same. Its `JWT_SECRET` has no heir: there is no
shared secret any more, for the hub signs access tokens with an Ed25519 key of its own making in `<data_dir>/pki`.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from hub_server.addresses import HostPort, bracketed, host_port_of, is_any, is_loopback, origin_of, reachable
from hub_server.signing.model import SIGNATURES_BURST, SIGNATURES_PER_SECOND
from protocol.limits import AGENT_SOCKET_PATH, COMMAND_EXPIRY_MAX_SECONDS

PREFIX: Final = "JTNT_"
NESTED: Final = "__"
CONFIG_NAME: Final = "hub.toml"
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=1, le=20 * 365 * 86400)]
Days = Annotated[int, Field(ge=1, le=3650)]
LogLevel = Literal["debug", "info", "warning", "error", "fatal"]


class ConfigError(Exception):
    """Settings that cannot be used. The message names the key and says what is expected."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PeopleSettings(Section):
    """`[people]`: the listener for browsers and the operator's command line."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `certificate` and `key`, or `trusted_proxies`."""
    port: Port = 3000
    allowed_origins: tuple[str, ...] = ()
    """Further origins whose pages may use the hub, as `https://dashboard.example`. Seed 004: CORS_ORIGIN.

    Lists in the environment are JSON."""
    certificate: Path | None = None
    """PEM chain of this listener; with `key` it speaks HTTPS."""
    key: Path | None = None
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Addresses or networks of reverse proxies: only their `X-Forwarded-For` is believed."""

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin_of(text) for text in value)

    @model_validator(mode="after")
    def _is_guarded(self) -> PeopleSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")
        if not (is_loopback(self.host) or self.certificate or self.trusted_proxies):
            raise ValueError(
                f"plain HTTP on {self.host} would carry passwords in the clear: give certificate and key, or name your "
                "reverse proxy in trusted_proxies, or listen on 127.0.0.1"
            )
        return self


class AgentsSettings(Section):
    """`[agents]`: the listener for agents; always TLS 1.3 with the hub's own certificate."""

    host: str = "127.0.0.1"
    port: Port = 3001
    handshakes_at_once: Annotated[int, Field(ge=1, le=1024)] = 32
    """TLS handshakes that run at a time; the rest waits in the listen queue."""
    handshake_timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0


class PublicSettings(Section):
    """`[public]`: the addresses under which others reach the hub. By default those it listens on."""

    agent_url: str | None = None
    """For agents, as `https://hub.example:3001`: in join strings and the hub's certificate. Seed 004: WEBSOCKET_URL."""
    web_url: str | None = None
    """For people, as `https://jtnt.example`."""

    @field_validator("agent_url")
    @classmethod
    def _is_agent_url(cls, value: str | None) -> str | None:
        if value is not None:
            host_port_of(value)
        return value

    @field_validator("web_url")
    @classmethod
    def _is_web_url(cls, value: str | None) -> str | None:
        return None if value is None else origin_of(value)


class AccessSettings(Section):
    """`[access]`: how long a sign-in lasts, what it takes, and how much may be asked in it."""

    access_token_seconds: Annotated[int, Field(ge=60, le=3600)] = 600
    refresh_days: Annotated[int, Field(ge=1, le=90)] = 14
    second_factor: Literal["auto", "always", "never"] = "auto"
    """Whether people who may run commands need TOTP. `auto`: once others than this machine reach the people's listener:
    `people.host` is no loopback address, or `people.trusted_proxies` or a `public.web_url` elsewhere is named."""
    operations_per_second: Annotated[float, Field(gt=0, le=10_000)] = 20
    """Operations of one person or API key, over all their sockets."""
    operations_at_once: Annotated[int, Field(ge=1, le=100_000)] = 100


class EnrollmentSettings(Section):
    """`[enrollment]`: how machines come in that wait for a person."""

    approval_days: Annotated[int, Field(ge=1, le=90)] = 7
    """How long a machine's request waits for a person, and an approved machine may take to come back."""
    recovery: bool = True
    """Whether an agent whose certificate expired may ask for a new one with its old key. A person approves each."""


class PkiSettings(Section):
    """`[pki]`: the hub's certificate authority. `trust_domain` is fixed once the hub was started."""

    trust_domain: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$")] = "jtnt"
    server_names: tuple[str, ...] = ()
    """Further names and addresses in the certificate of the agents' listener."""
    agent_certificate_seconds: Seconds = 30 * 86400
    server_certificate_seconds: Seconds = 90 * 86400
    issuing_seconds: Seconds = 365 * 86400
    """Life of the issuing CAs. The hub makes the next one before a third of it is left."""
    signer_seconds: Annotated[float, Field(ge=4 * COMMAND_EXPIRY_MAX_SECONDS, le=20 * 365 * 86400)] = 365 * 86400
    """Life of the keys that sign commands and the audit. An order that waits for its machine must not outlive them."""
    overlap_seconds: Seconds = 7 * 86400
    """How long agents know a new issuing CA of the hub before the hub shows a certificate of it."""

    @model_validator(mode="after")
    def _fit_together(self) -> PkiSettings:
        longest = max(self.agent_certificate_seconds, self.server_certificate_seconds + self.overlap_seconds)
        if self.issuing_seconds < 2 * longest:
            raise ValueError("issuing_seconds must be twice as long as the certificates with overlap_seconds")
        return self


class SecretsSettings(Section):
    """`[secrets]`: the key that seals secrets in the database; by default one is made, `<data_dir>/secrets.key`."""

    key_file: Path | None = None
    """A line of 32 bytes in base64 (`openssl rand -base64 32`), readable by the hub's user alone."""
    passphrase_file: Path | None = None
    """A passphrase of 12 characters at least; its salt is kept beside it, in `<name>.salt`."""

    @model_validator(mode="after")
    def _is_one(self) -> SecretsSettings:
        if self.key_file is not None and self.passphrase_file is not None:
            raise ValueError("give key_file or passphrase_file, not both")
        return self


class SignerSettings(Section):
    """`[signer]`: the process that alone signs commands. By default the hub starts one of its own."""

    socket: Path | None = None
    """Of a signer that runs as a service of another user (`jtnt-hub signer --listen`); the settings below are its own
    then."""
    key_file: Path | None = None
    """What seals the key that signs commands; by default `<data_dir>/signer.key`, which is made. Never the secrets
    key."""
    log_file: Path | None = None
    """What was signed, a line of JSON each; by default `<data_dir>/signer.log`."""
    per_second: Annotated[float, Field(gt=0, le=100_000)] = SIGNATURES_PER_SECOND
    """Signatures in the long run; beyond it people are told `rate_limited`."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = SIGNATURES_BURST
    organisations: tuple[str, ...] = ()
    """Ids of the organisations whose commands are signed; by default all."""


class LimitsSettings(Section):
    """`[limits]`: what each listener grants to those who have not proven who they are. A signed-in dashboard and an
    agent with its session do not count.
    """

    connections: Annotated[int, Field(ge=1, le=100_000)] = 512
    connections_per_address: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Of IPv6, a /64 network is one address. The `trusted_proxies` of `[people]` are not bounded by it."""
    headers_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0
    """For all of a first request's headers."""
    body_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0
    idle_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0
    """Between two requests on one connection."""


class MetricsSettings(Section):
    """`[metrics]`: who may read `/metrics` on the people's listener. By default programs of this machine alone."""

    token_file: Path | None = None
    """A secret of 16 characters at least, in one line. With it `/metrics` wants `Authorization: Bearer <secret>`."""
    fleet: bool = False
    """Whether `/metrics/fleet` shows the newest values of all machines of every organisation, a line for each."""


class RetentionSettings(Section):
    """`[retention]`: how long what machines send is kept, in days."""

    metrics_days: Days = 7
    """Every sample. Older ones that an agent still sends are taken and not stored."""
    rollup_1m_days: Days = 30
    """Minimum, maximum and mean of each minute."""
    rollup_5m_days: Days = 180
    rollup_1h_days: Days = 730
    reports_days: Days = 90
    """What agents report of themselves: lost connections, gaps, failing collectors."""
    commands_days: Days = 90
    """Commands that have ended. What the audit says of them stays."""
    output_days: Days = 30
    """What they printed."""


class Settings(BaseSettings):
    """All settings of a hub. What exists is valid; an unknown key is an error that names it."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter=NESTED, validate_default=True
    )

    data_dir: Path = Path("var")
    """Folder of the database, keys and the lock. One hub a folder."""
    database_url: str | None = None
    """`postgresql+asyncpg://user:password@host/name`; by default SQLite in `<data_dir>/hub.db`."""
    people: PeopleSettings = PeopleSettings()
    agents: AgentsSettings = AgentsSettings()
    public: PublicSettings = PublicSettings()
    access: AccessSettings = AccessSettings()
    enrollment: EnrollmentSettings = EnrollmentSettings()
    pki: PkiSettings = PkiSettings()
    secrets: SecretsSettings = SecretsSettings()
    signer: SignerSettings = SignerSettings()
    limits: LimitsSettings = LimitsSettings()
    metrics: MetricsSettings = MetricsSettings()
    retention: RetentionSettings = RetentionSettings()
    log_level: LogLevel = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        seed = InitSettingsSource(settings_cls, init_kwargs=_seed_values(os.environ))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls), seed

    @field_validator("database_url")
    @classmethod
    def _is_known_database(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise ValueError("expected postgresql+asyncpg://user:password@host/name or sqlite+aiosqlite:///path")
        return value

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'hub.db'}"

    @property
    def pki_dir(self) -> Path:
        return self.data_dir / "pki"

    @property
    def join_host_port(self) -> HostPort:
        """Return where agents reach this hub: what join strings say."""
        if self.public.agent_url is not None:
            return host_port_of(self.public.agent_url)
        return HostPort(reachable(self.agents.host), self.agents.port)

    @property
    def agent_websocket_url(self) -> str:
        host, port = self.join_host_port
        return f"wss://{bracketed(host)}:{port}{AGENT_SOCKET_PATH}"

    @property
    def web_url(self) -> str:
        """Return the dashboard's address for people, without a path."""
        if self.public.web_url is not None:
            return self.public.web_url
        scheme = "https" if self.people.certificate else "http"
        host = "localhost" if is_loopback(self.people.host) else reachable(self.people.host)
        return f"{scheme}://{bracketed(host)}:{self.people.port}"

    @property
    def web_is_https(self) -> bool:
        return self.web_url.startswith("https://")

    @property
    def demands_second_factor(self) -> bool:
        """Return whether people who may run commands need a second factor here."""
        if self.access.second_factor != "auto":
            return self.access.second_factor == "always"
        is_public = not is_loopback(urlsplit(self.web_url).hostname or "")
        return is_public or not is_loopback(self.people.host) or bool(self.people.trusted_proxies)

    @property
    def web_origins(self) -> frozenset[str]:
        """Return every origin whose pages may use the hub."""
        own = {origin_of(self.web_url)}
        if is_loopback(self.people.host):
            scheme = "https" if self.people.certificate else "http"
            own |= {origin_of(f"{scheme}://{host}:{self.people.port}") for host in ("localhost", "127.0.0.1", "[::1]")}
        return frozenset(own | set(self.people.allowed_origins))

    @property
    def server_names(self) -> tuple[str, ...]:
        """Return the names and addresses for the certificate of the agents' listener."""
        bound = () if is_any(self.agents.host) else (self.agents.host,)
        return tuple(dict.fromkeys((self.join_host_port.host, *bound, *self.pki.server_names)))


def load(*, config: Path | None = None, data_dir: Path | None = None) -> Settings:
    """Return the settings of file, environment and command line; what is given here wins.

    Without `config` the file is `<data_dir>/hub.toml`, if there. Raises ConfigError.
    """
    _refuse_unknown(os.environ)
    if config is not None and not config.is_file():
        raise ConfigError(f"there is no settings file {config}")
    folder = data_dir or Path(os.environ.get(f"{PREFIX}DATA_DIR", "var"))
    path = config or folder / CONFIG_NAME

    class SettingsOfFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return SettingsOfFile() if data_dir is None else SettingsOfFile(data_dir=data_dir)
    except TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(_explained(error)) from error
    except (OSError, SettingsError) as error:
        raise ConfigError(f"the settings cannot be read: {error}") from error


def _seed_values(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what seed 004's own environment names set."""
    values: dict[str, Any] = {}
    if url := environment.get("WEBSOCKET_URL"):
        values["public"] = {"agent_url": url}
    if origins := environment.get("CORS_ORIGIN"):
        values["people"] = {"allowed_origins": [origin.strip() for origin in origins.split(",")]}
    return values


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Raise ConfigError for a `JTNT_…` variable that is a setting misspelt: a part of no table, or nearly a key."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in environment:
        if not name.startswith(PREFIX) or name.split(NESTED, 1)[0] in known:
            continue
        near = difflib.get_close_matches(name.split(NESTED, 1)[0], known, n=1, cutoff=0.8)
        if NESTED in name or near:
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"the environment variable {name} names no setting{hint}")


def _explained(error: ValidationError) -> str:
    return "; ".join(_sentence_of(problem) for problem in error.errors())


def _sentence_of(problem: ErrorDetails) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {key}"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
