"""The daemon at work: one per folder, with its signals, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from agent_client.agent import Agent
from agent_client.children import watch_children_without_threads
from agent_client.config import load_config
from agent_client.errors import AgentError
from agent_client.logs import JsonLines, Log, log_to, set_level
from agent_client.paths import Places
from agent_client.signals import Signals, heard
from agent_client.store.secure import FILE_MODE, SecureStore
from agent_client.turns import is_locked
from agent_client.version import AGENT_VERSION

_STOP: Final[tuple[int, ...]] = (signal.SIGTERM, signal.SIGINT)
_RELOAD: Final[tuple[int, ...]] = (signal.SIGHUP,) if sys.platform != "win32" else ()

_log = Log("daemon")


class AlreadyRunning(AgentError):
    code: ClassVar[str] = "already_running"
    exit_code: ClassVar[int] = 75


def run_daemon(data_dir: str | None) -> int:
    """Run until a signal, logging to standard output. Returns the exit code; a restart that a job wants does not."""
    places = Places.chosen(data_dir)
    lines = log_to()
    try:
        with only_daemon_of(places):
            watch_children_without_threads()
            with heard(_STOP + _RELOAD) as signals:
                restarts = asyncio.run(serve(places, lines, signals)) and not signals.came(_STOP)
    except AgentError as error:
        _log.fatal(str(error), code=error.code)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    if restarts and sys.platform != "win32":  # there a service manager must do it
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  this very program
    return 0


async def serve(places: Places, lines: JsonLines, signals: Signals) -> bool:
    """Run the agent of `places` until a signal; return whether the process wants to begin anew.

    Raises AgentError when it cannot start.
    """
    while True:
        config = load_config(places)
        lines.agent_id = config.agent_id
        set_level(config.log_level)
        agent = Agent(places, config)
        signals.answer(dict.fromkeys(_STOP, agent.stop) | dict.fromkeys(_RELOAD, agent.reload))
        _log.info("agent starting", version=AGENT_VERSION, hub=config.hub_url, data=str(places.state))
        await agent.run()
        _log.info("agent stopped")
        if agent.restarts or not agent.begins_anew or signals.came(_STOP):
            return agent.restarts


@contextmanager
def only_daemon_of(places: Places) -> Iterator[None]:
    """Hold the lock of these places. Raises AlreadyRunning when another daemon has it."""
    SecureStore(places.state).prepare()
    with os.fdopen(os.open(places.lock, os.O_RDWR | os.O_CREAT, FILE_MODE), "r+") as file:
        if not is_locked(file):
            file.seek(0)
            pid = file.read(32).strip()
            raise AlreadyRunning(f"another jtnt-agentd already runs in {places.state} (process {pid or 'unknown'})")
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
