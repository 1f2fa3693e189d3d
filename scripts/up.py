"""The demo: a hub on SQLite, this machine enrolled as a real agent, both kept running until Ctrl-C."""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

USERNAME: Final = "admin"
JOIN_TTL_SECONDS: Final = 24 * 3600
READY_DEADLINE_SECONDS: Final = 30.0
STEP_DEADLINE_SECONDS: Final = 60.0
STOP_DEADLINE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05
HUB_RESTART_SECONDS: Final = 1.0
AGENT_RESTART_SECONDS: Final = 5.0
PR_SET_PDEATHSIG: Final = 1


class CannotStart(Exception):
    """One line for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Options:
    data_dir: Path
    web_port: int
    agent_port: int
    with_agent: bool

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "JTNT_DATA_DIR": str(self.data_dir),
            "JTNT_PEOPLE__PORT": str(self.web_port),
            "JTNT_AGENTS__PORT": str(self.agent_port),
            "JTNT_PUBLIC__AGENT_URL": f"https://localhost:{self.agent_port}",
        }

    @property
    def demo_file(self) -> Path:
        return self.data_dir / "demo.json"

    @property
    def agent_dir(self) -> Path:
        return self.data_dir / "agent"

    @property
    def dashboard_url(self) -> str:
        return f"http://localhost:{self.web_port}"


@dataclass(slots=True)
class Service:
    """A process that is started again when it dies, as a service manager would."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    log_file: Path
    restart_seconds: float
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    due_at: float = field(default=0.0, init=False)

    def start(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  this program has one thread
            )

    def keep_running(self) -> None:
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if not self.due_at:
            say(f"{self.name} ended ({_ending_of(self.process.returncode)}); again in {self.restart_seconds:g} s")
            self.due_at = now + self.restart_seconds
        elif now >= self.due_at:
            self.due_at = 0.0
            self.start()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"{self.name} did not stop within {STOP_DEADLINE_SECONDS:g} s and is killed")
            self.process.kill()
            self.process.wait()


def main() -> None:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
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
    first_start = "password" not in demo
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
            services.append(_started_agent(options))
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
        for service in reversed(services):
            service.stop()


def say(line: str) -> None:
    print(line, flush=True)


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
        "--data-dir", type=Path, default=Path("var"), metavar="DIR", help="where everything is kept (var/)"
    )
    parser.add_argument("--no-agent", action="store_true", help="start the hub alone")
    given = parser.parse_args()
    if given.web_port == given.agent_port:
        parser.error("--web-port and --agent-port must differ")
    return Options(given.data_dir.resolve(), given.web_port, given.agent_port, not given.no_agent)


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


def _started_agent(options: Options) -> Service:
    folder = str(options.agent_dir)
    if _agent_id(options) is None:
        _step(options, "jtnt-agent", "enroll", _join_string(options), "--data-dir", folder)
    argv = _program("jtnt-agentd", "--data-dir", folder)
    agent = Service("the agent", argv, options.environment, options.data_dir / "logs/agent.log", AGENT_RESTART_SECONDS)
    agent.start()
    return agent


def _agent_id(options: Options) -> str | None:
    """Return this machine's identity, None while it is not enrolled."""
    try:
        agent_id: str = json.loads((options.agent_dir / "config.json").read_bytes())["agent_id"]
    except FileNotFoundError:
        return None
    return agent_id


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
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{options.web_port}/readyz", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_SECONDS)
    raise CannotStart(f"the hub was not ready within {READY_DEADLINE_SECONDS:g} s (see {hub.log_file})")


def _greet(options: Options, demo: Mapping[str, Any], first_start: bool) -> None:
    say("")
    say(f"  Dashboard   {demo['dashboardUrl']}")
    say(f"  User        {demo['username']}")
    say(f"  Password    {demo['password'] if first_start else f'as before (in {options.demo_file})'}")
    say(f"  Add another machine: jtnt-agent enroll '{demo['joinString']}'")
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


def _ending_of(return_code: int) -> str:
    return f"exit code {return_code}" if return_code >= 0 else signal.Signals(-return_code).name


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main()
