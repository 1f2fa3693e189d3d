"""The agent's configuration: `config.json`, checked when it is loaded and when it is saved."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Struct

from agent_client.backoff import Pace
from agent_client.errors import AgentError
from agent_client.paths import CONFIG, Places
from agent_client.store.secure import SecureStore
from protocol.codec import split_path
from protocol.elements import Word
from protocol.limits import (
    BACKOFF_INITIAL_SECONDS,
    BACKOFF_JITTER,
    BACKOFF_MAX_SECONDS,
    BACKOFF_STABLE_SECONDS,
    FIRST_RETRY_SPREAD_SECONDS,
    SEND_DEADLINE_AGENT_SECONDS,
    SLOW_LANE_SECONDS,
    SPOOL_MAX_AGE_SECONDS,
    SPOOL_MAX_BYTES,
)

Seconds = Annotated[float, Meta(ge=0, le=7 * 86400)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=86400)]
AckSeconds = Annotated[float, Meta(ge=0.1, le=86400)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
RunningJobs = Annotated[int, Meta(ge=1, le=256)]
LogLevel = Literal["debug", "info", "warn", "error", "fatal"]
SecureUrl = Annotated[str, Meta(pattern=r"^(https|wss)://[^/\s]+", max_length=2048)]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who this agent is and how it behaves. Enrollment writes the first block; people may add keys of the second.

    Intervals of samples and heartbeats are not here: the hub sets them.
    """

    agent_id: Word
    organisation_id: Word
    trust_domain: Word
    hub_url: SecureUrl
    websocket_url: SecureUrl

    log_level: LogLevel = "info"
    first_retry_spread_seconds: Seconds = FIRST_RETRY_SPREAD_SECONDS
    backoff_initial_seconds: Seconds = BACKOFF_INITIAL_SECONDS
    backoff_max_seconds: Seconds = BACKOFF_MAX_SECONDS
    backoff_jitter: Fraction = BACKOFF_JITTER
    backoff_stable_seconds: Seconds = BACKOFF_STABLE_SECONDS
    slow_lane_seconds: Seconds = SLOW_LANE_SECONDS
    open_timeout_seconds: PositiveSeconds = 20.0
    close_timeout_seconds: PositiveSeconds = 5.0
    welcome_timeout_seconds: PositiveSeconds = 10.0
    send_timeout_seconds: PositiveSeconds = SEND_DEADLINE_AGENT_SECONDS
    ack_timeout_seconds: AckSeconds = 30.0
    spool_max_bytes: Annotated[int, Meta(ge=256 * 1024)] = SPOOL_MAX_BYTES
    spool_max_age_seconds: PositiveSeconds | Annotated[int, Meta(gt=0)] = SPOOL_MAX_AGE_SECONDS
    running_jobs_max: RunningJobs = 8
    kill_grace_seconds: PositiveSeconds = 5.0
    executor_idle_seconds: PositiveSeconds = 60.0
    executor_service: bool = False
    """Jobs run in an executor that is a service of its own; else the daemon starts one when there are jobs."""
    policy_file: Annotated[str, Meta(pattern=r"^(/|[A-Za-z]:\\)", max_length=4096)] | None = None
    """Of the machine's own policy; by default /etc/jtnt/policy.toml on Linux."""

    @property
    def pace(self) -> Pace:
        return Pace(
            first_retry_spread_seconds=self.first_retry_spread_seconds,
            initial_seconds=self.backoff_initial_seconds,
            max_seconds=self.backoff_max_seconds,
            jitter=self.backoff_jitter,
            slow_lane_seconds=self.slow_lane_seconds,
        )

    def connects_like(self, other: Config) -> bool:
        """Return whether a session opened with `other` need not be opened anew for this configuration."""
        return (self.agent_id, self.websocket_url) == (other.agent_id, other.websocket_url)


class ConfigError(AgentError):
    """The configuration cannot be used; the message names the file and the key."""

    code: ClassVar[str] = "config_invalid"
    exit_code: ClassVar[int] = 78


class NotEnrolled(ConfigError):
    code: ClassVar[str] = "not_enrolled"


_FORMER_KEYS: Final = frozenset({"certificate_not_after_ms"})  # the certificate says it itself


def load_config(places: Places) -> Config:
    """Raises NotEnrolled when there is none, ConfigError when a key is unknown, missing or wrong."""
    store = SecureStore(places.config)
    if not store.exists(CONFIG):
        raise NotEnrolled(
            f"this machine is not enrolled ({places.config / CONFIG} does not exist); "
            f"run `jtnt-agent enroll JOIN-STRING{places.option}` with the line the hub gave you"
        )
    return _parse(store.load(CONFIG), str(places.config / CONFIG))


def save_config(places: Places, config: Config) -> None:
    """Write `config.json`. Raises ConfigError, and writes nothing, when a value is out of its range."""
    encoded = msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"
    _parse(encoded, "the new configuration")
    SecureStore(places.config).save(CONFIG, encoded)


def _parse(raw: bytes, where: str) -> Config:
    try:
        said = msgspec.json.decode(raw, type=dict[str, Any])
        config = msgspec.convert({key: said[key] for key in said if key not in _FORMER_KEYS}, Config)
    except msgspec.ValidationError as error:
        message, path = split_path(str(error))
        key = path.removeprefix("$").removeprefix(".")
        raise ConfigError(f"{where}: {f'key `{key}`: ' if key else ''}{message}") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(f"{where} is not JSON: {error}") from error
    if config.backoff_max_seconds < config.backoff_initial_seconds:
        raise ConfigError(f"{where}: key `backoff_max_seconds` is below `backoff_initial_seconds`")
    if not config.websocket_url.startswith("wss://"):
        raise ConfigError(f"{where}: key `websocket_url` must begin with wss://")
    return config
