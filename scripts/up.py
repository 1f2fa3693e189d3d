"""The demo: a hub on SQLite, this machine enrolled as a real agent, both kept running until Ctrl-C."""

from __future__ import annotations

import argparse
import fcntl
import http
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from scripts.services import Service, say, stop_holder

USERNAME: Final = "admin"
JOIN_TTL_SECONDS: Final = 24 * 3600
READY_DEADLINE_SECONDS: Final = 30.0
STEP_DEADLINE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
HUB_RESTART_SECONDS: Final = 1.0
AGENT_RESTART_SECONDS: Final = 5.0


SETTINGS: Final = """\
# Written by `dev.py up` at each start. The environment (JTNT_PEOPLE__PORT=…) goes before it.
[people]
port = {web_port}

[agents]
host = "{agent_host}"
port = {agent_port}

[public]
agent_url = "https://{agent_address}"
"""


class CannotStart(Exception):
    """One line for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Options:
    data_dir: Path
    web_port: int
    agent_port: int
    with_agent: bool
    host: str | None

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "JTNT_DATA_DIR": str(self.data_dir)}

    @property
    def agent_address(self) -> str:
        return f"{self.host or 'localhost'}:{self.agent_port}"

    @property
    def settings(self) -> str:
        """Return hub.toml: the programs of this folder find the hub by it, also those that a person starts."""
        return SETTINGS.format(
            web_port=self.web_port,
            agent_port=self.agent_port,
            agent_host="0.0.0.0" if self.host else "127.0.0.1",  # noqa: S104  asked for with --host
            agent_address=self.agent_address,
        )

    @property
    def demo_file(self) -> Path:
        return self.data_dir / "demo.json"

    @property
    def agent_dir(self) -> Path:
        return self.data_dir / "agent"

    @property
    def dashboard_url(self) -> str:
        return f"http://localhost:{self.web_port}"


def main() -> None:
    options = _options()
    _on_signals(_interrupted)
    try:
        with _alone_in(options.data_dir):
            _run(options)
    except CannotStart as problem:
        raise SystemExit(f"up: {problem}") from None
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _run(options: Options) -> None:
    _check_ports(options)
    demo = _demo_of(options)
    is_new = not (options.data_dir / "hub.db").exists()
    first_start = is_new or "password" not in demo
    (options.data_dir / "hub.toml").write_text(options.settings)
    if first_start:
        demo["password"] = _administrator(options)
    hub = Service(
        "the hub",
        _program("jtnt-hub", "serve"),
        options.environment,
        options.data_dir / "logs/hub.log",
        HUB_RESTART_SECONDS,
    )
    services = [hub]
    try:
        hub.start()
        _wait_until_ready(options, hub)
        if options.with_agent:
            services.append(_started_agent(options, hub_is_new=is_new))
        demo.update(
            dashboardUrl=options.dashboard_url,
            username=USERNAME,
            agentId=_agent_id(options),
            joinString=_join_string(options),
        )
        _write_private(options.demo_file, demo)
        _greet(options, demo, first_start)
        while True:
            time.sleep(POLL_SECONDS)
            for service in services:
                service.keep_running()
    except KeyboardInterrupt:
        say("stopping …")
    finally:
        _stop(options, services)


def _stop(options: Options, services: Sequence[Service]) -> None:
    """End all that was started, in order: each has its deadline, and a second Ctrl-C would leave some of it behind."""
    _on_signals(signal.SIG_IGN)
    for service in reversed(services):
        service.stop()
    if options.with_agent:  # jobs outlive the agent, by intent; nothing is to outlive this
        stop_holder("the process that runs jobs", options.agent_dir / "executor.lock")


def _options() -> Options:
    parser = argparse.ArgumentParser(
        prog="dev.py up",
        description="Start a hub on SQLite, enroll this machine as a real agent, and keep both running until Ctrl-C.",
        epilog="Examples:\n  dev.py up\n  dev.py up --web-port 8080 --agent-port 8443 --data-dir /tmp/demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--web-port", type=_port, default=3000, metavar="PORT", help="the dashboard's port (3000)")
    parser.add_argument("--agent-port", type=_port, default=3001, metavar="PORT", help="the agents' port (3001)")
    parser.add_argument(
        "--data-dir", type=_folder, default=Path("var"), metavar="DIR", help="where everything is kept (var/)"
    )
    parser.add_argument("--host", metavar="NAME", help="this machine's name or address: lets other machines join")
    parser.add_argument("--no-agent", action="store_true", help="start the hub alone")
    given = parser.parse_args()
    if given.web_port == given.agent_port:
        parser.error("--web-port and --agent-port must differ")
    return Options(given.data_dir.resolve(), given.web_port, given.agent_port, not given.no_agent, given.host)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("give the name of a folder")
    return Path(text)


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


@contextmanager
def _alone_in(data_dir: Path) -> Iterator[None]:
    """Hold the folder for this run. Raises CannotStart when it cannot be written or another run holds it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "up.lock").open("w")
    except OSError as error:
        raise CannotStart(
            f"cannot write to {data_dir} ({error.strerror}); give another folder with --data-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotStart(
                f"another `up` runs in {data_dir}; stop it with Ctrl-C there, or give another folder with --data-dir"
            ) from error
        yield


def _check_ports(options: Options) -> None:
    for port, flag in ((options.web_port, "--web-port"), (options.agent_port, "--agent-port")):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CannotStart(
                    f"port {port} cannot be used ({error.strerror}); stop what uses it, or give another with {flag}"
                ) from error


def _demo_of(options: Options) -> dict[str, Any]:
    try:
        demo: dict[str, Any] = json.loads(options.demo_file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CannotStart(f"{options.demo_file} is damaged ({error}); delete it to make a new administrator") from error
    if not isinstance(demo, dict):
        raise CannotStart(f"{options.demo_file} is damaged; delete it to make a new administrator")
    return demo


def _administrator(options: Options) -> str:
    """Make the administrator and return the password; one who exists (demo.json was deleted) gets a new one."""
    password = secrets.token_urlsafe(18)
    _step(options, "jtnt-hub", "init")
    try:
        role = ("--role", "org-admin", "--password-stdin")
        _step(options, "jtnt-hub", "users", "create", USERNAME, *role, text=password)
    except CannotStart:
        _step(options, "jtnt-hub", "users", "password", USERNAME, "--password-stdin", text=password)
    _write_private(options.demo_file, {"username": USERNAME, "password": password})
    return password


def _join_string(options: Options) -> str:
    answer = json.loads(_step(options, "jtnt-hub", "token", "create", "--ttl", str(JOIN_TTL_SECONDS), "--json"))
    join_string: str = answer["joinString"]
    return join_string


def _started_agent(options: Options, *, hub_is_new: bool) -> Service:
    folder = str(options.agent_dir)
    if _agent_id(options) is None or hub_is_new:
        force = ("--force",) if hub_is_new else ()
        _step(options, "jtnt-agent", "enroll", _join_string(options), "--data-dir", folder, *force)
    _readdress(options)
    argv = _program("jtnt-agentd", "--data-dir", folder)
    agent = Service("the agent", argv, options.environment, options.data_dir / "logs/agent.log", AGENT_RESTART_SECONDS)
    agent.start()
    return agent


def _agent_id(options: Options) -> str | None:
    """Return this machine's identity, None while it is not enrolled."""
    config = _agent_config(options)
    return config["agent_id"] if config else None


def _agent_config(options: Options) -> dict[str, Any] | None:
    path = options.agent_dir / "config.json"
    try:
        config = json.loads(path.read_bytes())
        return {**config, "agent_id": config["agent_id"]}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise CannotStart(
            f"{path} is damaged ({error}); delete {options.agent_dir} to enroll this machine anew"
        ) from error


def _readdress(options: Options) -> None:
    """Tell the agent of this folder where its hub is now: the ports may have changed since it enrolled."""
    config = _agent_config(options)
    address = {
        "hub_url": f"https://localhost:{options.agent_port}",
        "websocket_url": f"wss://localhost:{options.agent_port}/ws/agents",
    }
    if config is not None and any(config.get(key) != value for key, value in address.items()):
        _write_private(options.agent_dir / "config.json", {**config, **address})


def _step(options: Options, *command: str, text: str | None = None) -> str:
    """Run one program to its end and return what it printed. Raises CannotStart with its own words."""
    done = subprocess.run(
        _program(*command),
        env=options.environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=STEP_DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CannotStart(f"{' '.join(command[:2])} failed: {said[-1] if said else 'it said nothing'}")
    return done.stdout


def _wait_until_ready(options: Options, hub: Service) -> None:
    deadline = time.monotonic() + READY_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert hub.process is not None
        if hub.process.poll() is not None:
            lines = hub.log_file.read_text(errors="replace").splitlines()
            raise CannotStart(
                f"the hub ended at once: {lines[-1] if lines else 'it said nothing'} (see {hub.log_file})"
            )
        if _is_ready(options.web_port):
            return
        time.sleep(POLL_SECONDS)
    raise CannotStart(f"the hub was not ready within {READY_DEADLINE_SECONDS:g} s (see {hub.log_file})")


def _is_ready(port: int) -> bool:
    """Ask the hub itself: no proxy that the environment names."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _greet(options: Options, demo: Mapping[str, Any], first_start: bool) -> None:
    where = "other machines" if options.host else "this machine; `up --host NAME` lets others join"
    say("")
    say(f"  Dashboard   {demo['dashboardUrl']}")
    say(f"  User        {demo['username']}")
    say(f"  Password    {demo['password'] if first_start else f'as before (in {options.demo_file})'}")
    say("")
    say(f"  A further agent (on {where}):")
    say(f"    python3 scripts/dev.py run jtnt-agent enroll '{demo['joinString']}' --data-dir DIR")
    say("    python3 scripts/dev.py run jtnt-agentd --data-dir DIR")
    say("")
    say(f"  Logs in {options.data_dir / 'logs'}. Ctrl-C stops everything.")


def _write_private(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _program(name: str, *arguments: str) -> list[str]:
    """Return the argv of one of the project's own programs, beside the Python that runs this."""
    return [str(Path(sys.executable).parent / name), *arguments]


def _on_signals(action: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Take what ends this program: also its terminal's end, unless it was begun to outlive that (nohup)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, action)


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
