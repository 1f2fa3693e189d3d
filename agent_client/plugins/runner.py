"""One run of a plugin, bounded in time, output and rights to change it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar, Final

from agent_client.children import Child, own_environment, own_module, run_child
from agent_client.collectors.readings import Figures
from agent_client.errors import AgentError
from agent_client.execution.process import environment_of
from agent_client.ownership import check_unchangeable
from agent_client.paths import Places
from agent_client.plugins.figures import OUTPUT_MAX_BYTES, figures_of
from agent_client.plugins.settings import Plugin

_ENTRY_POINT: Final = "agent_client.plugins.entry_point"
_NAME_VARIABLE: Final = "JTNT_PLUGIN"


class PluginFailed(AgentError):
    """The plugin gave no figures; the message says why."""

    code: ClassVar[str] = "plugin_failed"


async def run_plugin(plugin: Plugin, places: Places) -> Figures:
    """Return its figures and labels. Raises AgentError: PluginFailed, Untrusted, ChildFailed or BadOutput."""
    ended = await run_child(_child_of(plugin, places))
    if ended.exit_code != 0:
        raise PluginFailed(f"it {ended.story}")
    return figures_of(ended.output, plugin.labels)


def _child_of(plugin: Plugin, places: Places) -> Child:
    environment = {_NAME_VARIABLE: plugin.name}
    if plugin.command is not None:
        argv = [str(_program(plugin.command[0], places)), *plugin.command[1:]]
    else:
        argv = own_module(_ENTRY_POINT, plugin.entry_point or "", str(places.plugins))
        environment["PYTHONPATH"] = own_environment()["PYTHONPATH"]
    return Child(
        argv=argv,
        timeout_seconds=plugin.timeout_seconds,
        output_max_bytes=OUTPUT_MAX_BYTES,
        environment=environment_of(environment),
        folder=places.plugins if places.plugins.is_dir() else None,
    )


def _program(given: str, places: Places) -> Path:
    """Return the program's real path. Raises PluginFailed or Untrusted."""
    path = Path(given)
    if not path.is_absolute():
        if path.name != given:
            raise PluginFailed(f"{given!r} is neither a file of {places.plugins} nor an absolute path")
        path = places.plugins / given
    try:
        real = check_unchangeable(path)
    except OSError as error:
        raise PluginFailed(f"cannot run {path}: {error.strerror or error}") from error
    if not real.is_file() or (sys.platform != "win32" and not os.access(real, os.X_OK)):
        raise PluginFailed(f"{real} is not a program; run `chmod u+x {real}`")
    return real
