"""`plugins.toml` beside the configuration: which plugins there are, and how each one is run."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Struct

from agent_client.errors import AgentError
from agent_client.ownership import Untrusted, check_unchangeable
from agent_client.paths import Places
from protocol.codec import split_path

PLUGINS_MAX: Final = 24
FILE_MAX_BYTES: Final = 256 * 1024

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Argument = Annotated[str, Meta(max_length=4096)]
EntryPoint = Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=256)]
Label = Annotated[str, Meta(max_length=256)]


class Plugin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `command` (a program of the folder `plugins`, or an absolute path) or `entry_point` (module:function).

    `labels` go with every sample, as `label.<name>`.
    """

    name: Name
    command: Annotated[list[Argument], Meta(min_length=1, max_length=256)] | None = None
    entry_point: EntryPoint | None = None
    interval_seconds: Annotated[float, Meta(ge=5, le=86400)] = 60.0
    timeout_seconds: Annotated[float, Meta(gt=0, le=600)] = 10.0
    labels: Annotated[dict[Name, Label], Meta(max_length=16)] = {}

    @property
    def metric_type(self) -> str:
        return f"custom.{self.name}"


def plugin_line(plugin: Plugin) -> str:
    """Say for a person what is run, and when."""
    what = " ".join(plugin.command) if plugin.command else plugin.entry_point
    return f"{plugin.name:<20} every {plugin.interval_seconds:g} s, at most {plugin.timeout_seconds:g} s: {what}"


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    plugin: Annotated[list[Plugin], Meta(max_length=PLUGINS_MAX)] = []


class PluginsUnusable(AgentError):
    """`plugins.toml` cannot be used; the message names the file and the key."""

    code: ClassVar[str] = "plugins_unusable"
    exit_code: ClassVar[int] = 78


def load_plugins(places: Places) -> list[Plugin]:
    """Return the plugins in the order of the file; none where there is no file. Raises PluginsUnusable."""
    path = places.plugins_file
    if not path.exists():
        return []
    try:
        check_unchangeable(path)
        text = path.read_bytes()[: FILE_MAX_BYTES + 1]
    except Untrusted as error:
        raise PluginsUnusable(str(error)) from error
    except OSError as error:
        raise PluginsUnusable(f"cannot read {path}: {error.strerror or error}") from error
    return _checked(_parsed(text, str(path)), str(path))


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    # Most machines have no plugins; the parser would stay in the daemon's memory.
    import tomllib  # noqa: PLC0415

    if len(text) > FILE_MAX_BYTES:
        raise PluginsUnusable(f"{where} is larger than {FILE_MAX_BYTES} bytes")
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise PluginsUnusable(f"{where} is not TOML: {error}") from error


def _checked(said: dict[str, Any], where: str) -> list[Plugin]:
    try:
        plugins = msgspec.convert(said, _File).plugin
    except msgspec.ValidationError as error:
        message, path = split_path(str(error))
        raise PluginsUnusable(f"{where}: `{path.removeprefix('$').removeprefix('.')}`: {message}") from error
    names = [plugin.name for plugin in plugins]
    for plugin in plugins:
        if names.count(plugin.name) > 1:
            raise PluginsUnusable(f"{where}: two plugins have the name {plugin.name!r}")
        if (plugin.command is None) == (plugin.entry_point is None):
            raise PluginsUnusable(f"{where}: plugin {plugin.name!r} needs either `command` or `entry_point`")
        if plugin.timeout_seconds > plugin.interval_seconds:
            raise PluginsUnusable(f"{where}: plugin {plugin.name!r}: `timeout_seconds` is above `interval_seconds`")
    return plugins
